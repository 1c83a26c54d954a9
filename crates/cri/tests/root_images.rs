//! The image service.

mod fixture;

use carrack_cri_proto::v1;
use carrack_tests::cri::{Cri, image_spec};
use carrack_tests::image::{Builder, Packing, busybox_layer};
use carrack_tests::registry::canned::Fault;
use fixture::with_daemon;
use serde_json::json;
use tonic::Code;

fn status(cri: &Cri, image: &str) -> Option<v1::Image> {
    let request = v1::ImageStatusRequest { image: Some(image_spec(image)), verbose: true };
    cri.images(async |mut client| client.image_status(request).await).expect("an answer").image
}

fn list(cri: &Cri, image: &str) -> Vec<v1::Image> {
    let filter = Some(v1::ImageFilter { image: Some(image_spec(image)) });
    let request = v1::ListImagesRequest { filter };
    cri.images(async |mut client| client.list_images(request).await).expect("a list").images
}

#[test]
fn root_an_image_has_one_id_under_all_its_names() {
    with_daemon("one-id", |stage| {
        let cri = stage.cri();
        let again = stage.registry.publish("other/name", "v2", &carrack_tests::image::busybox());
        assert_eq!(cri.pull(&again).expect("the registry has it"), stage.image);
        assert_eq!(cri.list_images().expect("a list").len(), 1);
        let image = status(cri, &stage.image_name).expect("it is there");
        assert_eq!((image.id.as_str(), image.pinned), (stage.image.as_str(), false));
        let mut tags = image.repo_tags.clone();
        tags.sort();
        let mut wanted = vec![stage.image_name.clone(), again.clone()];
        wanted.sort();
        assert_eq!(tags, wanted);
        assert!(image.repo_digests.iter().all(|digest| digest.contains("@sha256:")), "{image:?}");
        assert!(image.size > 100_000, "{image:?}");
        assert_eq!((image.uid, image.username.as_str()), (Some(v1::Int64Value { value: 0 }), ""));
        for name in [stage.image.as_str(), &stage.image[7..], &stage.image[7..19], &again] {
            assert_eq!(status(cri, name).as_ref(), Some(&image), "{name}");
            assert_eq!(list(cri, name), std::slice::from_ref(&image), "{name}");
        }
        assert_eq!(status(cri, "no-such-image"), None);
        assert!(list(cri, "no-such-image").is_empty());

        let pod = stage.run_pod("images");
        let mut config = stage.container_config("app", &["sleep", "1000"]);
        config.image = Some(v1::ImageSpec { user_specified_image: "busybox".into(), ..image_spec(&stage.image) });
        let id = stage.run(&pod, config);
        let container = cri.status(&id).expect("its status");
        assert_eq!(container.image_id, stage.image);
        assert_eq!(container.image.expect("an image").user_specified_image, "busybox");
        assert!(image.repo_digests.contains(&container.image_ref), "{}", container.image_ref);
        cri.remove_pod(&pod).expect("it goes");

        let usage =
            cri.images(async |mut client| client.image_fs_info(v1::ImageFsInfoRequest {}).await).expect("usage");
        let used = usage.image_filesystems[0].used_bytes.expect("a number").value;
        assert!(used > 100_000, "{used}");
        let mountpoint = &usage.image_filesystems[0].fs_id.as_ref().expect("a filesystem").mountpoint;
        assert_eq!(*mountpoint, stage.node.root().to_string_lossy());
        assert_eq!(usage.container_filesystems.len(), 1);

        // By one name it goes with all of them, and once more is no failure.
        for _ in 0..2 {
            cri.remove_image(&again).expect("removed");
        }
        assert!(cri.list_images().expect("a list").is_empty());
        cri.remove_image("never-there").expect("gone is removed");
    });
}

#[test]
fn root_an_images_user_is_told_as_number_or_name() {
    with_daemon("image-user", |stage| {
        for (tag, user, uid, username) in [
            ("number", "1000:1001", Some(1000), ""),
            ("name", "web:web", None, "web"),
            ("overflow", "4294967296", None, "4294967296"),
        ] {
            let image = Builder::default().layer(Packing::Gzip, busybox_layer()).set("User", json!(user)).build();
            let name = stage.registry.publish("users", tag, &image);
            stage.cri().pull(&name).expect("the registry has it");
            let told = status(stage.cri(), &name).expect("it is there");
            assert_eq!((told.uid.map(|uid| uid.value), told.username.as_str()), (uid, username), "{user}");
        }
    });
}

#[test]
fn root_a_pull_that_fails_says_why() {
    with_daemon("failing-pull", |stage| {
        let cri = stage.cri();
        let unknown = format!("{}/library/nothing:latest", stage.registry.host());
        assert_eq!(cri.pull(&unknown).expect_err("the registry has no such image").code(), Code::NotFound);
        let malformed = cri.pull("UPPER/case").expect_err("no name");
        assert_eq!(malformed.code(), Code::InvalidArgument, "{malformed:?}");
        assert_eq!(cri.pull("").expect_err("no name").code(), Code::InvalidArgument);
        // Nobody listens at the port of a listener that is gone.
        let (listener, address) = stage.node.listen("127.0.0.1:0");
        drop(listener);
        let down = cri.pull(&format!("{address}/library/busybox:latest")).expect_err("nobody is there");
        assert_eq!(down.code(), Code::Unavailable, "{down:?}");
        assert!(down.message().starts_with("RegistryUnavailable: "), "{down:?}");
        let secret = v1::AuthConfig { auth: "not base64: hunter2".into(), ..Default::default() };
        let request = v1::PullImageRequest {
            image: Some(image_spec(&stage.image_name)),
            auth: Some(secret),
            ..Default::default()
        };
        let refused = cri.images(async |mut client| client.pull_image(request).await).expect_err("malformed");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(!refused.message().contains("hunter2") && !stage.daemon.log().contains("hunter2"), "{refused:?}");
    });
}

#[test]
fn root_a_pull_whose_caller_goes_away_is_given_up_and_can_be_repeated() {
    with_daemon("cancelled-pull", |stage| {
        let cri = stage.cri();
        let layer = [busybox_layer(), vec![0; 1024]].concat();
        let image = Builder::default().layer(Packing::Plain, layer).build();
        let name = stage.registry.publish("slow", "v1", &image);
        stage.registry.fault(Fault::Hold { digest: image.layers[0].clone(), after: 1000 });
        let mut request =
            tonic::Request::new(v1::PullImageRequest { image: Some(image_spec(&name)), ..Default::default() });
        request.set_timeout(std::time::Duration::from_secs(2));
        let given_up = cri.images(async |mut client| client.pull_image(request).await).expect_err("it hangs");
        assert!(matches!(given_up.code(), Code::DeadlineExceeded | Code::Cancelled), "{given_up:?}");
        assert_eq!(status(cri, &name), None);
        stage.registry.release();
        assert_eq!(cri.pull(&name).expect("nothing is in the way"), image.config);
    });
}
