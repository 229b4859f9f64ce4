//! A validator that is killed while its weights are on their way.

use super::*;

/// Kills the validator when its weights, or `others` in their place, are in a
/// block, and it has not heard of it.
fn killing(chain: &Arc<OfflineChain>, others: Option<&'static [(u16, f64)]>) -> Otherwise {
    Otherwise {
        chain: Arc::clone(chain),
        block: Box::new(|chain| chain.block()),
        set_weights: Box::new(move |chain, weights| {
            chain.set_weights(others.unwrap_or(weights))?;
            panic!("killed");
        }),
    }
}

/// What becomes of weights whose validator was killed when they were in block
/// 713 and it knew block 710 as final; `others` are there in their place.
#[track_caller]
fn check_killed(others: Option<&'static [(u16, f64)]>, state: WeightsState, reason: Option<&str>) {
    let mut scene = Scene::new(&[miner(2, 300, "2.0")], Settings::default(), None);
    scene.play(361, 709);
    let Scene { mut rehearsal, mut validator, _folder: folder, .. } = scene;
    let chain = rehearsal.chain();
    rehearsal.advance_to(712).unwrap();
    validator.parts.chain = Arc::new(killing(&chain, others));
    let view = chain.view(710).unwrap();
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = validator.take_turns(&view);
    }));
    assert!(killed.is_err());
    let Validator { parts, state: held, .. } = validator;
    drop(held);
    let identity = offline::identity(&parts.subnet);
    let held = State::open(folder.path(), &identity).unwrap();
    let validator =
        Validator::new(Parts { chain: Arc::clone(&chain) as Arc<dyn Chain>, ..parts }, held);
    let validator = validator.unwrap();
    // It is started before the block with them is final.
    for block in 711..=780 {
        rehearsal.advance_to(block + 2).unwrap();
        validator.take_turns(&chain.view(block).unwrap()).unwrap();
    }
    let weights = validator.state().ask(|q| q.weights_page(None, 10)).unwrap();
    assert_eq!(weights.len(), 1);
    assert_eq!((weights[0].state, weights[0].reason.as_deref()), (state, reason));
    let block = weights[0].receipt.as_ref().map(|receipt| receipt.block);
    assert_eq!(block, (state == WeightsState::Final).then_some(713));
}

#[test]
fn weights_that_nothing_was_heard_of_are_found() {
    check_killed(None, WeightsState::Final, None);
    let reason = "the chain has others than were sent, of block 713";
    check_killed(Some(&[(1, 1.0)]), WeightsState::Failed, Some(reason));
}
