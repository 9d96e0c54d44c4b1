//! WebSocket frames, in pieces of any size: judged alike however they are cut, and never beyond their bound.

use super::FrameGuard;

pub fn check(data: &[u8]) {
    let Some((&cut, data)) = data.split_first() else {
        return;
    };
    let whole = FrameGuard::new(1000).read(data);
    if let Err((good, _)) = whole {
        assert!(good <= data.len());
    }
    let mut guard = FrameGuard::new(1000);
    let pieces = data
        .chunks(usize::from(cut).max(1))
        .try_for_each(|piece| guard.read(piece));
    assert_eq!(
        whole.map_err(|(_, breach)| breach),
        pieces.map_err(|(_, breach)| breach)
    );
    let _ = wire::frame::decode(data);
}
