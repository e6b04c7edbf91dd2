//! Sharing images: with accounts by their number, or with all.
//!
//! What must always hold: from the answer on, an account that is taken off sees the image no more, and
//! its disks made from it cannot be re-initialised.

use std::sync::Arc;

use block_device::BlockDevice;
use catalog::{
    Batch,
    record::{Image, ImageStatus},
};

use super::{ImageShare, ShareImage};
use crate::{
    Caller, Cloud, CloudError, Countable, Page, Paging, Quota, Resource,
    caller::Right,
    claim::{Claim, Hold},
    clock::whole_seconds,
    cloud::layer_name,
    world::World,
};

/// Accounts in one call.
const MOST_IN_CALL: usize = 10;
/// Accounts one image is shared with.
const MOST_SHARES: usize = 50;

/// An image opened for reading; it cannot be deleted meanwhile.
#[derive(Debug)]
pub struct OpenImage {
    /// Its bytes.
    pub device: Arc<dyn BlockDevice>,
    _claim: Claim,
}

impl Cloud {
    /// Changes whom an own image is shared with.
    pub fn share_image(&self, caller: &Caller, request: &ShareImage) -> Result<(), CloudError> {
        caller.may(Right::Change, "ModifyImageSharePermission")?;
        if request.public.is_some() {
            caller.must_be_operator("making an image public")?;
        }
        if request.add.len() > MOST_IN_CALL || request.remove.len() > MOST_IN_CALL {
            let what = Countable::ShareAccounts;
            return Err(CloudError::TooMany { what, most: MOST_IN_CALL });
        }
        let mut world = self.world_when(|world| world.is_quiet(&[&request.image]));
        let image = world.own_image(&caller.account, &request.image)?.clone();
        let shared = self.shared(&world, image, request)?;
        let claim = self.claim(caller, &mut world, vec![Hold::Quiet(request.image.clone())])?;
        drop(world);
        let mut batch = Batch::new();
        batch.put(&shared)?;
        self.commit(&batch)?;
        claim.publish(|world| world.images.insert(shared.id.clone(), shared));
        Ok(())
    }

    fn shared(
        &self,
        world: &World,
        mut image: Image,
        request: &ShareImage,
    ) -> Result<Image, CloudError> {
        for number in &request.remove {
            image.shared_with.remove(&account_number(world, number)?);
        }
        let owner = world.account(&image.account)?.number;
        for number in &request.add {
            let number = account_number(world, number)?;
            if number == owner {
                return Err(CloudError::ShareWithSelf { image: image.id });
            }
            image.shared_with.entry(number).or_insert_with(|| self.now_seconds());
        }
        if image.shared_with.len() > MOST_SHARES {
            return Err(CloudError::QuotaExceeded { what: Quota::ImageShares });
        }
        image.public = request.public.unwrap_or(image.public);
        Ok(image)
    }

    /// Whom an own image is shared with.
    pub fn image_shares(
        &self,
        caller: &Caller,
        id: &str,
        paging: &Paging,
    ) -> Result<Page<ImageShare>, CloudError> {
        caller.may(Right::Describe, "DescribeImageSharePermission")?;
        paging.check()?;
        let world = self.world();
        let shares = world.own_image(&caller.account, id)?.shared_with.iter();
        let shares = shares.map(|(number, since)| ImageShare {
            account_number: *number,
            since: whole_seconds(*since),
        });
        Ok(paging.cut(shares.collect()))
    }

    /// Opens an image the account may use, to export its bytes.
    pub fn open_image(&self, caller: &Caller, id: &str) -> Result<OpenImage, CloudError> {
        caller.may(Right::Describe, "image export")?;
        let mut world = self.world_when(|world| world.is_quiet(&[id]));
        let image = world.visible_image(&caller.account, id)?;
        let layer = image.layer.filter(|_| image.status == ImageStatus::Available);
        let layer = layer.ok_or_else(|| CloudError::ImageNotReady { image: id.into() })?;
        let claim = self.claim(caller, &mut world, vec![Hold::Pin(id.into())])?;
        drop(world);
        let device = self.inner.store.open_layer(layer_name(layer))?;
        Ok(OpenImage { device, _claim: claim })
    }
}

fn account_number(world: &World, number: &str) -> Result<u64, CloudError> {
    let known = |number: &u64| world.accounts.values().any(|account| account.number == *number);
    let parsed = number.parse().ok().filter(known);
    parsed.ok_or_else(|| CloudError::not_found(Resource::Account, number))
}
