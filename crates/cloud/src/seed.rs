//! The NoCloud seed of an instance: what cloud-init in the guest reads at its first boot.
//!
//! What must always hold
//! 1. The name of the instance in it is another after each reset of the system disk and with each new
//!    one, so that cloud-init begins anew; it stays the same otherwise.
//! 2. A password is in it as a hash only, and the same hash until something changes.
//! 3. What the client gave as user data is passed on as it is; what sets up the login then stands beside it,
//!    as vendor data, over which cloud-init prefers the user's.
//!
//! The documents are JSON, which is YAML too and leaves no question of quoting.
//! Left to others: bringing it to the guest, as a file, a directory or an image (`cli`).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use catalog::record::{Disk, DiskRole, Instance};
use serde_json::{Value, json};

use crate::{
    Caller, Cloud, CloudError, Field, Resource, caller::Right, cloud::disk_name,
    first_boot::FirstBoot, sha512_crypt,
};

/// What cloud-init finds, as the bytes of the files of those names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceSeed {
    /// What the guest takes as its identity: new after each reset.
    pub seed_id: String,
    /// How one logs in: `password`, the name of a key pair, or none.
    pub login: Option<String>,
    /// `meta-data`.
    pub meta_data: String,
    /// `user-data`; may be empty, but is there.
    pub user_data: Vec<u8>,
    /// `vendor-data`, if there is any.
    pub vendor_data: Option<String>,
}

impl Cloud {
    /// The seed as of now. Only who may change the instance is shown it: it holds the hash of the password.
    pub fn instance_seed(&self, caller: &Caller, id: &str) -> Result<InstanceSeed, CloudError> {
        caller.may(Right::Change, "instance seed")?;
        let world = self.world_when(|world| world.is_quiet_around(id));
        let instance = world.instance(&caller.account, id)?.clone();
        let system = world.disks_of(id).into_iter().find(|disk| disk.role == DiskRole::System);
        let system = system.cloned().ok_or_else(|| CloudError::not_found(Resource::Disk, ""))?;
        drop(world);
        self.seed_of(&instance, &system)
    }

    /// `DescribeUserData`, base64: what the client gave. For one that gave none, and may change the
    /// instance, what sets up the login.
    pub fn user_data(&self, caller: &Caller, id: &str) -> Result<String, CloudError> {
        caller.may(Right::Describe, "DescribeUserData")?;
        let given = self.world().instance(&caller.account, id)?.user_data.clone();
        if !given.is_empty() || caller.may(Right::Change, "DescribeUserData").is_err() {
            return Ok(given);
        }
        let seed = self.instance_seed(caller, id)?;
        Ok(STANDARD.encode(seed.user_data))
    }

    fn seed_of(&self, instance: &Instance, system: &Disk) -> Result<InstanceSeed, CloudError> {
        let epoch = self.inner.store.disk(&disk_name(&system.id)?)?.epoch.get();
        let seed_id = format!("{}-{}-{epoch}", instance.id, system.id);
        let first = self.first_boot_of(system)?;
        let key = first.as_ref().and_then(|first| self.public_key(first));
        let login = first.as_ref().map(|first| self.login_config(first, key, &seed_id));
        let given = instance.user_data.trim_end_matches('=');
        let decoded = LENIENT.decode(given);
        let given = decoded.map_err(|_| CloudError::Malformed {
            field: Field::UserData,
            rule: "it must be base64 for a guest to be given it",
        })?;
        let (user_data, vendor_data) = match (given.is_empty(), login) {
            (true, login) => (login.unwrap_or_default().into_bytes(), None),
            (false, login) => (given, login),
        };
        let meta_data = meta_data(instance, &seed_id, key);
        let login = first.as_ref().map(|first| first.key_pair().unwrap_or("password").to_owned());
        Ok(InstanceSeed { seed_id, login, meta_data, user_data, vendor_data })
    }

    fn public_key(&self, first: &FirstBoot) -> Option<&str> {
        self.inner.settings.key_pairs.get(first.key_pair()?).map(String::as_str)
    }

    /// A cloud-config: the login of root, as with the machines of the cloud this stands in for.
    fn login_config(&self, first: &FirstBoot, key: Option<&str>, seed_id: &str) -> String {
        let mut config = json!({ "disable_root": false });
        if let Some(password) = first.password() {
            // A salt of its own for each first boot, and yet the same whenever it is asked for.
            let salt = self.inner.sealer.digest(&[b"first boot salt", seed_id.as_bytes()]);
            let hash = sha512_crypt::hash(&password, &salt);
            let root = json!({ "name": "root", "password": hash, "type": "hash" });
            config["chpasswd"] = json!({ "expire": false, "users": [root] });
            config["ssh_pwauth"] = true.into();
        }
        if first.key_pair().is_some() {
            config["ssh_pwauth"] = false.into();
            config["ssh_authorized_keys"] = key.into_iter().map(Value::from).collect();
        }
        format!("#cloud-config\n{config:#}\n")
    }
}

fn meta_data(instance: &Instance, seed_id: &str, key: Option<&str>) -> String {
    let host = if instance.host_name.is_empty() { &instance.id } else { &instance.host_name };
    let mut meta = json!({ "instance-id": seed_id, "local-hostname": host });
    if let Some(key) = key {
        meta["public-keys"] = json!([key]);
    }
    format!("{meta:#}\n")
}

/// Clients leave the padding away, or put it where none is due.
const LENIENT: base64::engine::GeneralPurpose = base64::engine::general_purpose::STANDARD_NO_PAD;
