//! Uploads, pictures, and forgetting them.

use super::*;

#[test]
fn a_bad_picture_fails_each_question_that_waits_for_it() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    rig.ask("b", json!({"upload": 1}));
    rig.take();
    rig.connection.binary(&frame::encode(1, b"hello"));
    let messages = rig.take_so_many(4);
    assert_eq!(kind(&messages[0]), "upload_received");
    for message in &messages[1..] {
        assert_eq!(message["code"], "image_unsupported");
    }
    assert_eq!(messages[1]["image"], messages[0]["image"]);
    let mut requests: Vec<_> = messages[2..]
        .iter()
        .map(|m| m["request"].as_str().unwrap())
        .collect();
    requests.sort_unstable();
    assert_eq!(requests, ["a", "b"]);
    rig.ask("c", json!({"upload": 1}));
    rig.refused(ErrorCode::ImageUnsupported);
    rig.no_command();
}

#[test]
fn a_cancelled_upload_fails_its_questions() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    rig.take();
    rig.send(json!({"type": "cancel", "upload": 1}));
    let messages = rig.take();
    let codes: Vec<_> = messages
        .iter()
        .map(|m| m["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["upload_cancelled", "upload_cancelled"]);
    assert_eq!(
        (&messages[0]["upload"], &messages[1]["request"]),
        (&json!(1), &json!("a"))
    );
    rig.connection.binary(&frame::encode(1, b"late"));
    rig.send(json!({"type": "cancel", "upload": 1}));
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.send(json!({"type": "cancel", "upload": 2}));
    rig.refused(ErrorCode::UnknownUpload);
}

#[test]
fn a_picture_is_forgotten_when_it_is_freed() {
    let rig = rig();
    let image = rig.image(1);
    rig.ask("a", json!({"image": image}));
    let job = rig.asked();
    rig.send(json!({"type": "forget", "image": image}));
    assert_eq!(rig.cancelled(), job.request);
    let gone = rig.forgotten();
    assert_eq!(rig.kinds(), Vec::<String>::new());
    rig.answer(&job, FinishReason::Cancelled);
    assert_eq!(rig.kinds().last().unwrap(), "done");
    rig.freed(rig.session(), Freed::Picture(gone));
    let forgotten = rig.only();
    assert_eq!(
        (&forgotten["type"], &forgotten["image"]),
        (&json!("forgotten"), &json!(image))
    );
    rig.ask("b", json!({"image": image}));
    rig.refused(ErrorCode::ImageGone);
    rig.send(json!({"type": "forget", "image": "img_x"}));
    rig.refused(ErrorCode::UnknownImage);
    // Sent again, it is a new picture.
    assert_ne!(rig.image_again(2, 1), image);
}

#[test]
fn the_picture_used_longest_ago_goes() {
    let rig = rig_with(|limits| limits.images = 2);
    let (first, second) = (rig.image(1), rig.image(2));
    rig.answered("a", json!({"image": first}));
    rig.upload(3, &picture(3));
    rig.forgotten();
    rig.looked();
    rig.take();
    rig.ask("b", json!({"image": second}));
    rig.refused(ErrorCode::ImageGone);
    rig.answered("c", json!({"image": first}));
}

#[test]
fn a_known_picture_is_not_sent_again() {
    let rig = rig();
    let image = rig.image(1);
    let sha256 = wire::to_hex(&Sha256::digest(picture(1)));
    rig.send(json!({"type": "upload", "upload": 2, "bytes": 1, "sha256": sha256}));
    let messages = rig.take();
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        ["upload_received", "image_ready"]
    );
    assert!(
        messages
            .iter()
            .all(|m| m["image"] == image.as_str() && m["cached"] == true)
    );
    // Without its hash it is noticed at its end.
    rig.upload(3, &picture(1));
    assert_eq!(
        rig.kinds(),
        ["upload_accepted", "upload_received", "image_ready"]
    );
    rig.no_command();
    rig.answered("a", json!({"upload": 3}));
}

#[test]
fn an_upload_goes_on_after_a_resume() {
    let mut rig = rig();
    let file = picture(1);
    let announce = json!({"type": "upload", "upload": 1, "bytes": file.len()});
    rig.send(announce.clone());
    rig.connection.binary(&frame::encode(1, &file[..30]));
    rig.connection.detach();
    // Nobody can send meanwhile, so it does not grow old.
    rig.hub.tick(Instant::now() + Duration::from_secs(200));
    rig.connection = rig.resume(0).unwrap();
    rig.send(announce.clone());
    let messages = rig.take();
    assert_eq!(
        messages.iter().map(kind).collect::<Vec<_>>(),
        ["welcome", "upload_accepted"]
    );
    assert_eq!(messages[1]["received"], 30);
    rig.connection.binary(&frame::encode(1, &file[30..]));
    rig.looked();
    assert_eq!(rig.kinds(), ["upload_received", "image_ready"]);
    // It is over: the same announcement learns that nothing is left to send, another is refused and ends nothing.
    rig.send(announce);
    assert_eq!(rig.only()["received"], file.len());
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 3}));
    assert_eq!(rig.refused(ErrorCode::UploadNumberUsed).get("upload"), None);
}

#[test]
fn idle_uploads_and_waiting_questions_time_out() {
    let rig = rig();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.ask("a", json!({"upload": 1}));
    rig.take();
    rig.hub.tick(Instant::now() + Duration::from_secs(31));
    let codes: Vec<_> = rig.take().iter().map(|m| m["code"].clone()).collect();
    assert_eq!(codes, ["upload_timeout", "upload_timeout"]);

    rig.ask("b", json!({}));
    let conversation = {
        rig.queued(&rig.asked(), Some(0));
        rig.only()["conversation"].clone()
    };
    rig.ask("c", json!({"conversation": conversation}));
    rig.take();
    rig.hub.tick(Instant::now() + Duration::from_secs(601));
    let done = rig.only();
    assert_eq!(
        (&done["request"], &done["finish_reason"]),
        (&json!("c"), &json!("timeout"))
    );
}

#[test]
fn a_lonely_upload_gives_its_memory_to_others_and_begins_again() {
    let rig = rig_with(|limits| limits.upload_bytes = 1 << 31);
    let budget = rig.hub.shared.budget.clone();
    rig.send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    rig.connection.binary(&frame::encode(1, b"hel"));
    rig.take();
    assert_eq!(budget.used(), 3);
    rig.connection.detach();
    rig.hub.tick(Instant::now());
    assert_eq!(budget.used(), 3);

    // Somebody else needs all of it.
    let other = rig.hub.open(None, local(), None).unwrap();
    let send = |message: Value| other.text(codec::decode(&message.to_string()), || Ok(()));
    send(json!({"type": "upload", "upload": 1, "bytes": 1 << 30}));
    let piece = frame::encode(1, &vec![0; frame::MAX_PAYLOAD]);
    while budget.used() + frame::MAX_PAYLOAD as u64 <= UPLOAD_MEMORY {
        other.binary(&piece);
        take(&other);
    }
    other.binary(&piece);
    assert_eq!(take(&other).last().unwrap()["code"], "busy");
    assert_eq!(budget.used(), 0);

    let Ok(again) = rig.resume(0) else {
        panic!("the session is there");
    };
    let send = |message: Value| again.text(codec::decode(&message.to_string()), || Ok(()));
    send(json!({"type": "upload", "upload": 1, "bytes": 5}));
    assert_eq!(take(&again).last().unwrap()["received"], 0);
    again.binary(&frame::encode(1, b"hello"));
    let received = &take(&again)[0];
    assert_eq!(received["type"], "upload_received");
    let sha256: [u8; 32] = Sha256::digest(b"hello").into();
    assert_eq!(received["sha256"], wire::to_hex(&sha256));
}

#[test]
fn numbers_run_out_for_known_pictures_too() {
    let rig = rig();
    rig.image(1);
    let sha256: [u8; 32] = Sha256::digest(picture(1)).into();
    let mut last = Value::Null;
    for number in 2..=65_537 {
        let hash = wire::to_hex(&sha256);
        rig.send(json!({"type": "upload", "upload": number, "bytes": 1, "sha256": hash}));
        last = rig.take().remove(0);
    }
    assert_eq!(last["code"], "too_many_uploads", "{last}");
}

#[test]
fn the_memory_of_all_kept_pictures_is_bounded() {
    let rig = rig();
    let memory = rig.hub.shared.pictures.clone();
    let shown = |connection: &Connection, shade: u8| {
        upload(connection, shade);
        let job = rig.looked();
        let ready = take(connection).pop().unwrap();
        assert_eq!(ready["type"], "image_ready");
        (ready["image"].as_str().unwrap().to_owned(), job)
    };
    let away = rig.hub.open(None, local(), None).unwrap();
    let (first, first_job) = shown(&rig.connection, 1);
    let (second, second_job) = shown(&away, 2);
    let (third, third_job) = shown(&rig.connection, 3);
    assert_eq!(memory.used(), PICTURE_MEMORY);

    // Of a session without a connection goes first, though another was used longer ago.
    away.detach();
    upload(&rig.connection, 4);
    let Command::Forget { session, picture } = rig.command() else {
        panic!("a picture must go")
    };
    assert_eq!(picture, second_job.key);
    // Its memory is counted until nobody has it.
    rig.freed(session, Freed::Picture(picture));
    std::thread::sleep(Duration::from_millis(200));
    rig.no_command();
    assert_eq!(memory.used(), PICTURE_MEMORY);
    drop(second_job);
    let fourth_job = rig.looked();
    assert_eq!(memory.used(), PICTURE_MEMORY);
    rig.take();

    // Then the one used longest ago, unless it is asked about.
    rig.ask("a", json!({"image": first}));
    let asked = rig.asked();
    upload(&rig.connection, 5);
    assert_eq!(rig.forgotten(), third_job.key);
    drop(third_job);
    rig.looked();
    rig.take();
    rig.ask("b", json!({"image": third}));
    rig.refused(ErrorCode::ImageGone);
    rig.answer(&asked, FinishReason::Stop);

    // The client that comes back is told.
    let resume = wire::Resume {
        session: away.id().into(),
        last_event: 0,
    };
    let back = rig.hub.resume(&resume, None).ok().unwrap();
    let forgotten = take(&back).pop().unwrap();
    assert_eq!(
        (&forgotten["type"], &forgotten["image"]),
        (&json!("forgotten"), &json!(second))
    );

    // With the session everything goes, as soon as the engine has freed it.
    rig.hub.close(&rig.connection);
    assert_eq!(memory.used(), PICTURE_MEMORY / 3 * 2);
    drop((first_job, fourth_job));
    assert_eq!(memory.used(), 0);
}
