use super::*;

/// A file as it is written: what follows the magic, in pieces.
#[derive(Clone, Default)]
struct Draft {
    version: Option<u32>,
    tensor_count: Option<u64>,
    key_count: Option<u64>,
    keys: Vec<(Vec<u8>, u32, Vec<u8>)>,
    tensors: Vec<(Vec<u8>, Vec<u64>, u32, u64)>,
    data_bytes: usize,
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_le_bytes(), bytes].concat()
}

impl Draft {
    /// Two keys and two tensors, 32 and 4 bytes.
    fn good() -> Self {
        Self {
            keys: vec![
                (b"general.architecture".to_vec(), 8, text(b"llama")),
                (b"list".to_vec(), 9, list(6, 2, &[1_f32.to_le_bytes(), 2_f32.to_le_bytes()])),
            ],
            tensors: vec![(b"a".to_vec(), vec![4, 2], 0, 0), (b"b".to_vec(), vec![2], 1, 32)],
            data_bytes: 36,
            ..Self::default()
        }
    }

    fn key(mut self, name: &str, kind: u32, value: impl Into<Vec<u8>>) -> Self {
        self.keys.push((name.as_bytes().to_vec(), kind, value.into()));
        self
    }

    fn tensor(
        mut self,
        index: usize,
        edit: impl FnOnce(&mut (Vec<u8>, Vec<u64>, u32, u64)),
    ) -> Self {
        edit(&mut self.tensors[index]);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.version.unwrap_or(3).to_le_bytes());
        bytes.extend(self.tensor_count.unwrap_or(self.tensors.len() as u64).to_le_bytes());
        bytes.extend(self.key_count.unwrap_or(self.keys.len() as u64).to_le_bytes());
        for (name, kind, value) in &self.keys {
            bytes.extend(text(name));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(value);
        }
        for (name, dimensions, kind, offset) in &self.tensors {
            bytes.extend(text(name));
            bytes.extend((dimensions.len() as u32).to_le_bytes());
            bytes.extend(dimensions.iter().flat_map(|size| size.to_le_bytes()));
            bytes.extend(kind.to_le_bytes());
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(bytes.len().next_multiple_of(32) + self.data_bytes, 0);
        bytes
    }
}

fn list(kind: u32, count: u64, values: &[[u8; 4]]) -> Vec<u8> {
    [kind.to_le_bytes().as_slice(), &count.to_le_bytes(), &values.concat()].concat()
}

/// `depth` lists, each the only element of the one around it.
fn nested(depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 1..depth {
        bytes.extend(list(9, 1, &[]));
    }
    bytes.extend(list(4, 1, &[7_u32.to_le_bytes()]));
    bytes
}

fn parse(bytes: &[u8]) -> Result<Header<'_>, GgufError> {
    Header::parse(bytes, bytes.len() as u64)
}

#[test]
fn a_header_is_read() {
    for version in [2, 3] {
        let bytes = Draft { version: Some(version), ..Draft::good() }
            .key("u8", 0, [200])
            .key("i16", 3, (-2_i16).to_le_bytes())
            .key("f64", 12, 0.5_f64.to_le_bytes())
            .key("flag", 7, [1])
            .key("deep", 9, nested(4))
            .bytes();
        let header = parse(&bytes).unwrap();
        let value = |key| header.metadata[key];
        assert_eq!(value("general.architecture").text(), Some("llama"));
        assert_eq!(value("u8").unsigned(), Some(200));
        assert_eq!(value("i16"), Value::Signed(-2));
        assert_eq!(value("i16").unsigned(), None);
        assert_eq!(value("f64").number(), Some(0.5));
        assert_eq!(value("flag").flag(), Some(true));
        let list: Vec<Value> = value("list").array().unwrap().iter().collect();
        assert_eq!(list, [Value::Float(1.0), Value::Float(2.0)]);
        let start = bytes.len() as u64 - 36;
        let [a, b] = header.tensors.as_slice() else { panic!("{header:?}") };
        assert_eq!((a.shape.as_slice(), a.range.clone()), ([2, 4].as_slice(), start..start + 32));
        assert_eq!((b.tensor_type, b.range.clone()), (TensorType::F16, start + 32..start + 36));
    }
}

/// The bytes that each is made of, and what the refusal says.
#[test]
fn what_is_wrong_is_refused() {
    let good = Draft::good;
    let huge = 1_u64 << 60;
    let huge_text = huge.to_le_bytes().to_vec();
    let cases: Vec<(Draft, &str)> = vec![
        (Draft { version: Some(1), ..good() }, "GGUF version 1 cannot be read"),
        (Draft { version: Some(3_u32.swap_bytes()), ..good() }, "GGUF version 50331648"),
        (Draft { tensor_count: Some(huge), ..good() }, "the number of tensors is 11529"),
        (Draft { key_count: Some(huge), ..good() }, "the number of metadata keys is 11529"),
        (Draft { tensor_count: Some(60_000), ..good() }, "tensor ``: has 0 dimensions"),
        (good().key("k", 8, huge_text.clone()), "the file ends within its header"),
        (good().key("k", 9, list(4, huge, &[])), "the file ends within its header"),
        (good().key("k", 9, list(4, u64::MAX, &[])), "the file ends within its header"),
        (good().key("k", 9, list(8, huge, &[])), "the file ends within its header"),
        (good().key("k", 9, nested(5)), "metadata key k: has lists within more than 4 lists"),
        (good().key("k", 9, nested(100_000)), "has lists within more than 4 lists"),
        (good().key("k", 13, []), "metadata key k: has the unknown type 13"),
        (good().key("k", 9, list(99, 1, &[])), "metadata key k: has the unknown type 99"),
        (good().key("k", 7, [2]), "metadata key k: byte 2 is neither true nor false"),
        (good().key("k", 9, list(7, 4, &[[0, 1, 2, 0]])), "neither true nor false"),
        (good().key("list", 0, [1]), "metadata key list: stands there twice"),
        (good().key(&"k".repeat(513), 0, [1]), "the length of a metadata key is 513"),
        (good().key("general.alignment", 4, 0_u32.to_le_bytes()), "general.alignment: is 0"),
        (good().key("general.alignment", 4, 24_u32.to_le_bytes()), "general.alignment: is 24"),
        (good().key("general.alignment", 4, [0, 0, 0, 128]), "alignment: is 2147483648"),
        (good().key("general.alignment", 8, text(b"32")), "general.alignment: is \"32\""),
        (good().tensor(0, |t| t.0 = vec![0xFF]), "its name is not UTF-8"),
        (good().tensor(0, |t| t.0 = vec![b'a'; 65]), "the length of a tensor's name is 65"),
        (good().tensor(0, |t| t.1 = vec![]), "tensor `a`: has 0 dimensions"),
        (good().tensor(0, |t| t.1 = vec![1; 5]), "tensor `a`: has 5 dimensions"),
        (good().tensor(0, |t| t.1 = vec![0]), "tensor `a`: has shape [0]"),
        (good().tensor(0, |t| t.1 = vec![huge, huge]), "which no file can hold"),
        (good().tensor(0, |t| t.1 = vec![huge]), "ends at byte 4611686018427388096"),
        (good().tensor(0, |t| t.2 = 6), "tensor `a`: has type Q5_0; F32, F16, Q4_0"),
        (good().tensor(0, |t| t.2 = 77), "tensor `a`: has type 77; F32"),
        (good().tensor(0, |t| t.2 = 8), "rows of Q8_0 must be whole blocks of 32"),
        (good().tensor(1, |t| t.3 = 0), "tensors overlap, or there is a hole"),
        (good().tensor(1, |t| t.3 = 16), "begins at byte 16 of the data, expected 32"),
        (good().tensor(1, |t| t.3 = 64), "begins at byte 64 of the data, expected 32"),
        (good().tensor(1, |t| t.3 = u64::MAX), "which no file can hold"),
        (good().tensor(1, |t| t.3 = u64::MAX - 63), "begins at byte 18446744073709551552"),
        (Draft { data_bytes: 35, ..good() }, "tensor `b`: ends at byte"),
        (Draft { data_bytes: 68, ..good() }, "the tensors end at byte"),
    ];
    for (draft, expected) in cases {
        let bytes = draft.bytes();
        let error = parse(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    assert_eq!(parse(b"GGML"), Err(GgufError::Magic));
    assert_eq!(parse(b""), Err(GgufError::Magic));
}

#[test]
fn every_truncation_is_refused() {
    let bytes = Draft::good().key("deep", 9, nested(3)).key("t", 8, text(b"text")).bytes();
    for length in 0..bytes.len() {
        assert!(parse(&bytes[..length]).is_err(), "{length} bytes");
    }
    let start = &bytes[..80];
    assert_eq!(Header::parse(start, bytes.len() as u64), Err(GgufError::TooLong));
}

/// No byte that is changed makes the parse do harm.
#[test]
fn changed_bytes_do_no_harm() {
    let bytes = Draft::good().key("deep", 9, nested(3)).bytes();
    for index in 0..bytes.len() {
        for value in [0, 1, 8, 9, 0x7F, 0xFF] {
            let mut changed = bytes.clone();
            changed[index] = value;
            if let Ok(header) = parse(&changed) {
                let inside = |tensor: &Tensor| tensor.range.end <= changed.len() as u64;
                assert!(header.tensors.iter().all(inside));
            }
        }
    }
}
