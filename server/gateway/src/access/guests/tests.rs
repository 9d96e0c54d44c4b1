//! Who gets a place, and who makes room for whom.

use std::task::Context;

use super::*;

const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn guests(limits: GuestLimits, most: usize) -> Arc<Guests> {
    Guests::new(vec![], limits, most, false)
}

fn connections(most: u32) -> GuestLimits {
    GuestLimits {
        connections: Some(most),
        ..GuestLimits::default()
    }
}

/// A connection that is served, or why it is not.
fn connect(guests: &Arc<Guests>, address: IpAddr) -> Result<ConnectionPermit, ErrorCode> {
    let limited = guests.limits_apply(address);
    let place = guests.connect(address, limited).expect("a place");
    match place.refusal() {
        None => Ok(place),
        Some(refusal) => Err(refusal.code),
    }
}

fn enter(guests: &Arc<Guests>, place: ConnectionPermit) -> Guest {
    let (client, place) = (place.client, Arc::new(place));
    let limited = place.limited;
    guests
        .enter(client, limited, Some(place), Visit::Session)
        .unwrap()
}

fn is_closed(place: &ConnectionPermit) -> bool {
    place.is_closed(&Context::from_waker(std::task::Waker::noop()))
}

#[test]
fn connections_are_counted_by_address() {
    let guests = guests(connections(2), 100);
    let first = connect(&guests, address(1)).unwrap();
    let _second = connect(&guests, address(1)).unwrap();
    assert_eq!(
        connect(&guests, address(1)).err(),
        Some(ErrorCode::RateLimited)
    );
    let _other = connect(&guests, address(2)).unwrap();
    let local: Vec<_> = (0..10).map(|_| connect(&guests, LOCAL).unwrap()).collect();
    drop(local);
    drop(first);
    assert!(connect(&guests, address(1)).is_ok());
    assert_eq!(guests.inner.lock().total, 2);
    assert_eq!(guests.inner.lock().refused, 0);
}

#[test]
fn of_those_refused_few_are_told_so() {
    let guests = guests(connections(1), 1000);
    let _first = connect(&guests, address(1)).unwrap();
    let refused: Vec<_> = (0..100)
        .filter_map(|_| guests.connect(address(1), true))
        .collect();
    assert_eq!(refused.len(), REFUSED_OF_ONE as usize);
    let of_all: Vec<_> = (2..200)
        .flat_map(|last| (0..9).map(move |_| address(last)))
        .filter_map(|address| guests.connect(address, true))
        .filter(|place| place.refusal().is_some())
        .collect();
    assert!(of_all.len() < REFUSED_OF_ALL);
    assert_eq!(guests.inner.lock().refused, refused.len() + of_all.len());
    drop((refused, of_all));
    assert_eq!(guests.inner.lock().refused, 0);
}

#[test]
fn who_has_most_without_a_session_makes_room() {
    let guests = guests(GuestLimits::default(), 4);
    let few = connect(&guests, address(2)).unwrap();
    let settled = enter(&guests, connect(&guests, address(1)).unwrap());
    settled.settle();
    let many: Vec<_> = (0..2)
        .map(|_| connect(&guests, address(1)).unwrap())
        .collect();
    let newcomer = enter(&guests, connect(&guests, address(3)).unwrap());
    assert_eq!(
        many.iter().map(is_closed).collect::<Vec<_>>(),
        [true, false]
    );
    // Too late for the one that is told to close.
    many[0].settle();
    drop(many);
    newcomer.settle();
    assert!(!is_closed(&few));
    assert_eq!(guests.inner.lock().total, 3);
    drop((few, settled, newcomer));
    let inner = guests.inner.lock();
    assert_eq!((inner.total, inner.strangers.len()), (0, 0));
}

#[test]
fn a_proxys_connections_count_for_those_who_ask() {
    let guests = guests(connections(1), 2);
    let proxy = address(9);
    let places: Vec<_> = (0..2)
        .map(|_| guests.connect(proxy, false).unwrap())
        .collect();
    let far = Client::at(address(1));
    let first = guests.pass(far).unwrap();
    assert_eq!(
        guests.pass(far).err().map(|e| e.code),
        Some(ErrorCode::RateLimited)
    );
    places[1].seen_as(far);
    drop(first);
    assert!(guests.pass(far).is_ok());
    let _third = guests.connect(proxy, false).unwrap();
    let _fourth = guests.connect(proxy, false).unwrap();
    assert!(places.iter().all(is_closed));
}

#[test]
fn all_together_are_bounded_and_the_gone_forgotten() {
    let limits = GuestLimits {
        asks_per_minute: Some(1),
        ..GuestLimits::default()
    };
    let guests = guests(limits, 2);
    let enter = |last| {
        let guest = enter(&guests, connect(&guests, address(last)).unwrap());
        guest.settle();
        guest
    };
    let (first, _second) = (enter(1), enter(2));
    assert_eq!(connect(&guests, address(3)).err(), Some(ErrorCode::Busy));
    assert!(first.ask().is_ok());
    assert_eq!(first.ask().unwrap_err().code, ErrorCode::RateLimited);
    drop(first);
    guests.tick(Instant::now());
    assert_eq!(guests.inner.lock().records.len(), 2);
    guests.tick(Instant::now() + Duration::from_secs(61));
    assert_eq!(guests.inner.lock().records.len(), 1);
}

fn keys(file: &str) -> Vec<Key> {
    Key::read_all(file, GuestLimits::default()).unwrap()
}

#[test]
fn keys_have_their_own_limits() {
    let file =
        "# ours\nabcdefghijklmnop asks=2  # first\n\nABCDEFGHIJKLMNOP connections=1 connects=9\n";
    let guests = Guests::new(keys(file), GuestLimits::default(), 10, false);
    let first_key = guests.owner("abcdefghijklmnop").unwrap();
    let second_key = guests.owner("ABCDEFGHIJKLMNOP").unwrap();
    assert_eq!(guests.owner("abcdefghijklmnoP"), None);
    assert_eq!(guests.owner(""), None);
    let enter = || enter(&guests, connect(&guests, LOCAL).unwrap());
    let mut first = enter();
    assert_eq!(first.client(), Client::at(LOCAL));
    first.identify(second_key).unwrap();
    assert_eq!(first.client(), Client::Key(second_key));
    assert!(enter().identify(second_key).is_err());
    let mut second = enter();
    second.identify(first_key).unwrap();
    assert!(second.ask().is_ok() && second.ask().is_ok() && second.ask().is_err());
    assert!(first.ask().is_ok());
    drop(first);
    assert!(enter().identify(second_key).is_ok());
}

#[test]
fn keys_may_change() {
    let (one, other, third) = ("abcdefghijklmnop", "ABCDEFGHIJKLMNOP", "0123456789abcdef");
    let guests = Guests::new(
        keys(&format!("{one} asks=2\n{other}")),
        GuestLimits::default(),
        10,
        false,
    );
    let key = guests.owner(one).unwrap();
    let enter = || enter(&guests, connect(&guests, LOCAL).unwrap());
    let mut guest = enter();
    guest.identify(key).unwrap();
    assert!(guest.ask().is_ok());
    let mut told = guests.watch();
    let now = keys(&format!("{third}\n{one} asks=3 connections=1"));
    assert_eq!(guests.set_keys(now), (1, 1));
    assert!(told.has_changed().unwrap());
    assert_eq!(guests.owner(other), None);
    assert!(guests.has(key) && guests.owner(third).is_some());
    // One is used up already.
    assert!(guest.ask().is_ok() && guest.ask().is_ok() && guest.ask().is_err());
    assert!(enter().identify(key).is_err());
    told.mark_unchanged();
    assert_eq!(guests.set_keys(keys(one)), (0, 1));
    assert!(guest.ask().is_ok() && enter().identify(key).is_ok());
}
