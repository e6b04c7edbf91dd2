//! Images: imported in the background, shared by number, seen only by whom they concern.

use std::{fs::File, io::Write};

use cloud::{
    CloudError, DescribeImages, DescribeTasks, ImageOwnerAlias, ImageStatus, Paging, Resource,
    ShareImage, TaskStatus,
};

use crate::lab::{Lab, MIB, all, import, wait};

fn aliases(lab: &Lab, caller: &cloud::Caller) -> Vec<(String, ImageOwnerAlias)> {
    let asked = DescribeImages { paging: all(), ..Default::default() };
    let page = lab.cloud.describe_images(caller, &asked).unwrap();
    let mut seen: Vec<_> =
        page.items.into_iter().map(|image| (image.name, image.owner_alias)).collect();
    seen.sort_by(|a, b| a.0.cmp(&b.0));
    seen
}

#[test]
fn an_import_is_a_task_and_its_name_is_taken_at_once() {
    let lab = Lab::new();
    let path = lab.directory.path().join("base.img");
    File::create(&path).unwrap().write_all(&[1; 1 << 20]).unwrap();
    let started = lab.cloud.import_image(&lab.key(), import(&path, "base")).unwrap();
    assert!(matches!(
        lab.cloud.import_image(&lab.key(), import(&path, "base")),
        Err(CloudError::ImageNameTaken { .. })
    ));
    wait(|| {
        let task = lab.cloud.describe_task(&lab.key(), &started.task).unwrap();
        task.status == TaskStatus::Finished
    });
    let asked = DescribeImages { ids: Some(vec![started.image.clone()]), ..Default::default() };
    let image = lab.cloud.describe_images(&lab.key(), &asked).unwrap().items.remove(0);
    assert_eq!((image.status, image.progress_percent), (ImageStatus::Available, 100));
    assert_eq!((image.size.get(), image.size_gib(), image.format.as_str()), (MIB, 1, "raw"));
    assert!(image.root.is_some());
    let tasks = lab.cloud.describe_tasks(&lab.key(), &DescribeTasks::default()).unwrap();
    assert_eq!((tasks.total, tasks.items[0].resource.as_str()), (1, started.image.as_str()));
    let stranger = lab.other("lab");
    assert!(matches!(
        lab.cloud.describe_task(&stranger, &started.task),
        Err(CloudError::NotFound { kind: Resource::Task, .. })
    ));
    let opened = lab.cloud.open_image(&lab.key(), &started.image).unwrap();
    assert_eq!(opened.device.size().get(), MIB);
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_image(&lab.key(), &started.image, true)),
        CloudError::ImageUsedByInstance { .. }
    ));
    drop(opened);
    lab.cloud.delete_image(&lab.key(), &started.image, false).unwrap();
}

#[test]
fn a_file_that_is_no_image_is_refused_and_leaves_nothing() {
    let lab = Lab::new();
    let path = lab.directory.path().join("odd.img");
    File::create(&path).unwrap().write_all(&[1; 1000]).unwrap();
    let error = lab.cloud.import_image(&lab.key(), import(&path, "odd"));
    match error {
        Err(CloudError::ImageRefused { detail }) => assert!(!detail.contains('/')),
        // A size that is none is found when the import begins; the task then says so.
        Ok(started) => wait(|| {
            let task = lab.cloud.describe_task(&lab.key(), &started.task).unwrap();
            task.status == TaskStatus::Failed
        }),
        Err(other) => panic!("{other:?}"),
    }
    let asked = DescribeImages {
        statuses: Some(vec![ImageStatus::Waiting, ImageStatus::Creating, ImageStatus::Available]),
        ..Default::default()
    };
    assert_eq!(lab.cloud.describe_images(&lab.key(), &asked).unwrap().total, 0);
    let left = std::fs::read_dir(lab.directory.path().join("layers"));
    assert_eq!(left.map_or(0, Iterator::count), 0);
}

#[test]
fn equal_content_is_one_layer_that_goes_with_the_last_image() {
    let lab = Lab::new();
    let first = lab.image(&lab.key(), "first", 3);
    let second = lab.image(&lab.key(), "second", 3);
    let layers = || std::fs::read_dir(lab.directory.path().join("layers")).unwrap().count();
    lab.cloud.store().wait_for_background();
    assert_eq!(layers(), 1);
    lab.cloud.delete_image(&lab.key(), &first, false).unwrap();
    lab.cloud.store().wait_for_background();
    assert_eq!(layers(), 1);
    let made = lab.used_instance(&lab.key(), &second);
    assert_eq!(lab.read(&made.system_disk), 3);
    lab.cloud.delete_instance(&lab.key(), &made.instance, false).unwrap();
    lab.cloud.delete_image(&lab.key(), &second, false).unwrap();
    lab.cloud.store().wait_for_background();
    assert_eq!(layers(), 0);
}

#[test]
fn importing_and_deleting_equal_content_at_once_never_loses_a_layer() {
    let lab = Lab::new();
    let mut held = lab.image(&lab.key(), "round", 3);
    for round in 0..20 {
        let name = format!("round-{round}");
        let next = std::thread::scope(|scope| {
            let deleting = scope.spawn(|| lab.cloud.delete_image(&lab.key(), &held, true).unwrap());
            let next = lab.image(&lab.key(), &name, 3);
            deleting.join().unwrap();
            next
        });
        let made = lab.instance(&lab.key(), &next);
        assert_eq!(lab.read(&made.system_disk), 3);
        lab.cloud.delete_instance(&lab.key(), &made.instance, false).unwrap();
        held = next;
    }
}

#[test]
fn own_shared_and_public_images_are_told_apart() {
    let lab = Lab::new();
    let own = lab.key();
    let (shared, public) = (lab.image(&own, "shared", 1), lab.image(&own, "public", 2));
    lab.image(&own, "private", 3);
    let (friend, stranger) = (lab.other("friend"), lab.other("stranger"));
    let share = |image: &str, add: Vec<String>, public| ShareImage {
        image: image.into(),
        add,
        public,
        ..Default::default()
    };
    let number = lab.account_number("friend");
    lab.cloud.share_image(&own, &share(&shared, vec![number.clone()], None)).unwrap();
    lab.cloud.share_image(&lab.operator(), &share(&public, vec![], Some(true))).unwrap();

    let named = |name: &str, alias| (name.to_owned(), alias);
    use ImageOwnerAlias::{Others, Own, System};
    assert_eq!(
        aliases(&lab, &own),
        [named("private", Own), named("public", Own), named("shared", Own)]
    );
    assert_eq!(aliases(&lab, &friend), [named("public", System), named("shared", Others)]);
    assert_eq!(aliases(&lab, &stranger), [named("public", System)]);

    let shares = lab.cloud.image_shares(&own, &shared, &Paging::default()).unwrap();
    assert_eq!(shares.items[0].account_number.to_string(), number);
    assert!(lab.cloud.image_shares(&friend, &shared, &Paging::default()).is_err());

    let lab = lab.restart(|_| ());
    assert_eq!(aliases(&lab, &friend).len(), 2);
    assert!(matches!(
        lab.refused(|| lab.cloud.delete_image(&own, &shared, true)),
        CloudError::ImageShared { .. }
    ));
    for caller in [&friend, &stranger] {
        assert!(matches!(
            lab.refused(|| lab.cloud.delete_image(caller, &public, true)),
            CloudError::NotFound { kind: Resource::Image, .. }
        ));
    }
    let with_self = share(&shared, vec![lab.account_number("default")], None);
    assert!(matches!(
        lab.refused(|| lab.cloud.share_image(&own, &with_self)),
        CloudError::ShareWithSelf { .. }
    ));
    for number in ["12345", "x", ""] {
        let unknown = share(&shared, vec![number.into()], None);
        assert!(matches!(
            lab.refused(|| lab.cloud.share_image(&own, &unknown)),
            CloudError::NotFound { kind: Resource::Account, .. }
        ));
    }
    let made_public = share(&shared, vec![], Some(true));
    assert!(matches!(
        lab.refused(|| lab.cloud.share_image(&own, &made_public)),
        CloudError::OperatorOnly { .. }
    ));
}
