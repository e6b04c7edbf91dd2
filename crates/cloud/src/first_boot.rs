//! What the first boot of a system disk sets up: a password or a key pair, given at creation or reset.
//!
//! What must always hold
//! 1. It is kept sealed, in the record of the disk, and counts from the reset on that brought it.
//! 2. A reset that brings none leaves what there is; one that never happened gives back what was
//!    there before it, which is why that is sealed along with it.
//! 3. A name of a key pair that cannot be looked up is refused, if there is anything to look it up in.
//!
//! Left to others: what a guest is told of it (`seed`), sealing (`secret`).

use catalog::record::{Disk, PendingReset};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::{Cloud, CloudError, Field, SecretText, password, texts};

/// Never printed, and wiped when dropped.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FirstBoot {
    password: Option<String>,
    key_pair: Option<String>,
    /// What a reset that did not happen gives back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Box<FirstBoot>>,
}

impl Drop for FirstBoot {
    fn drop(&mut self) {
        self.password.zeroize();
    }
}

impl FirstBoot {
    /// None if neither is given.
    pub(crate) fn of(password: Option<&SecretText>, key_pair: Option<&str>) -> Option<Self> {
        let password = password.map(|password| password.reveal().to_owned());
        let key_pair = texts::given(key_pair).map(str::to_owned);
        let any = password.is_some() || key_pair.is_some();
        any.then_some(Self { password, key_pair, before: None })
    }

    pub(crate) fn password(&self) -> Option<SecretText> {
        self.password.as_ref().map(SecretText::new)
    }

    pub(crate) fn key_pair(&self) -> Option<&str> {
        self.key_pair.as_deref()
    }

    fn after(mut self, mut before: Option<Self>) -> Self {
        // One step back is enough: a reset that came to pass is not undone.
        if let Some(before) = &mut before {
            before.before = None;
        }
        self.before = before.map(Box::new);
        self
    }
}

impl Cloud {
    /// A password or a key pair, not both, and each of the right form.
    pub(crate) fn check_login(
        &self,
        password: Option<&SecretText>,
        key_pair: Option<&str>,
    ) -> Result<(), CloudError> {
        let key_pair = texts::key_pair(key_pair)?;
        let known = &self.inner.settings.key_pairs;
        if !key_pair.is_empty() && !known.is_empty() && !known.contains_key(&key_pair) {
            let (field, value) = (Field::KeyPairName, key_pair);
            return Err(CloudError::ValueNotSupported { field, value });
        }
        let Some(password) = password else { return Ok(()) };
        if !key_pair.is_empty() {
            return Err(CloudError::ParametersConflict {
                first: "Password",
                second: "KeyPairName",
            });
        }
        password::check(password)
    }

    /// For the record of a disk that is made with it: it waits for nothing.
    pub(crate) fn with_disk(
        &self,
        data: &FirstBoot,
        disk: &str,
    ) -> Result<PendingReset, CloudError> {
        let sealed_first_boot = self.seal_first_boot(data, disk)?;
        Ok(PendingReset { ledger_sequence: 0, auto_start: false, sealed_first_boot })
    }

    /// What to seal for a reset that brings this, or nothing, to the disk; empty for nothing at all.
    pub(crate) fn first_boot_after(
        &self,
        brought: Option<FirstBoot>,
        disk: &Disk,
    ) -> Result<Vec<u8>, CloudError> {
        let before = self.first_boot_of(disk)?;
        match brought.or_else(|| before.clone()) {
            Some(data) => self.seal_first_boot(&data.after(before), &disk.id),
            None => Ok(Vec::new()),
        }
    }

    /// What the record of a disk holds once a reset of it was found not to have happened.
    pub(crate) fn without_reset(&self, disk: &Disk) -> Result<Option<PendingReset>, CloudError> {
        let before = self.first_boot_of(disk)?.and_then(|mut data| data.before.take());
        before.map(|before| self.with_disk(&before, &disk.id)).transpose()
    }

    pub(crate) fn first_boot_of(&self, disk: &Disk) -> Result<Option<FirstBoot>, CloudError> {
        let sealed = disk.pending_reset.as_ref().map(|pending| &pending.sealed_first_boot);
        let Some(sealed) = sealed.filter(|sealed| !sealed.is_empty()) else { return Ok(None) };
        let plain = self.inner.sealer.unseal(sealed, &disk.id)?;
        serde_json::from_slice(&plain).map(Some).map_err(CloudError::internal)
    }

    fn seal_first_boot(&self, data: &FirstBoot, disk: &str) -> Result<Vec<u8>, CloudError> {
        let plain = Zeroizing::new(serde_json::to_vec(data).map_err(CloudError::internal)?);
        self.inner.sealer.seal(&plain, disk)
    }
}
