//! A file system of a few megabytes, to be filled.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A mounted tmpfs. Unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `options` (`size=24m`, say) at `place`, a new folder.
    ///
    /// # Errors
    /// It cannot be mounted, which takes the privileges for it.
    pub fn mount(place: &Path, options: &str) -> Result<Self, String> {
        let failed = |why: &str| {
            format!(
                "a tmpfs cannot be mounted at {}: {why}. This test needs a disk that it can fill: run it as a \
                 user who may mount (root in a container with CAP_SYS_ADMIN)",
                place.display()
            )
        };
        std::fs::create_dir(place).map_err(|error| failed(&error.to_string()))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "pillarbox-test"]).arg(place);
        let output = mount.output().map_err(|error| failed(&error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).trim()));
        }
        Ok(Self { place: place.to_owned() })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.place
    }

    /// The bytes that are free on it.
    ///
    /// # Panics
    /// They cannot be told.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let figures = rustix::fs::statvfs(&self.place).expect("the disk is mounted");
        figures.f_bavail * figures.f_frsize
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that was just killed may hold its files for a moment.
        let _done = Command::new("umount").arg("--lazy").arg(&self.place).status();
    }
}
