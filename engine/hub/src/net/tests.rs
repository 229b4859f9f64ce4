use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::thread;

use super::*;

/// Stands for a server of the public net: another address of this machine.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn only_outside_is_public(address: IpAddr) -> bool {
    address == IpAddr::V4(OUTSIDE)
}

/// Answers one request on each connection, with a redirect or with `here`, and
/// gives the address to ask; none where this machine has no such address.
fn server(on: Ipv4Addr, redirect_to: Option<String>) -> Option<String> {
    let listener = TcpListener::bind((on, 0)).ok()?;
    let address = format!("http://{}/file", listener.local_addr().unwrap());
    let answer = match redirect_to {
        Some(target) => format!("302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n"),
        None => "200 OK\r\nContent-Length: 4\r\n\r\nhere".to_owned(),
    };
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let head = "HTTP/1.1 ";
            let _ = connection.write_all(format!("{head}{answer}").as_bytes());
        }
    });
    Some(address)
}

#[test]
fn a_public_server_leads_nobody_into_a_private_network() {
    let inside = server(Ipv4Addr::LOCALHOST, None).unwrap();
    // Only Linux has all of 127.0.0.0/8 from the start.
    let outside = server(OUTSIDE, None);
    if cfg!(not(target_os = "linux")) && outside.is_none() {
        return;
    }
    let outside = outside.unwrap();
    let by_name = inside.replace("127.0.0.1", "localhost");
    let out = |target: &str| server(OUTSIDE, Some(target.to_owned())).unwrap();
    let within = |target: &str| server(Ipv4Addr::LOCALHOST, Some(target.to_owned())).unwrap();
    let net = Net { is_public: only_outside_is_public, ..Net::new(NetLimits::SMALL) };
    let there_and_back = out(&within(&inside));
    // What is asked for, and whether it may be had.
    let rows = [
        (&inside, true),
        (&by_name, true),
        (&outside, true),
        (&within(&inside), true),
        (&within(&outside), true),
        (&out(&outside), true),
        (&out(&inside), false),
        (&out(&by_name), false),
        (&out(&out(&inside)), false),
        (&within(&out(&inside)), false),
        (&there_and_back, false),
    ];
    for (url, may) in rows {
        let ask = Ask { url, headers: &[], token: None, range: None, max_bytes: 100 };
        let found = net.get(&ask).and_then(|answer| answer.body.bytes());
        match found {
            Ok(bytes) => assert!(may && bytes == b"here", "{url}"),
            Err(DownloadFault::Refused { reason, .. }) => {
                assert!(!may && reason.starts_with("is within a private network"), "{reason}");
            }
            Err(other) => panic!("{url}: {other}"),
        }
    }
}
