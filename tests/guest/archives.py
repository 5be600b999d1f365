"""A distribution's archive in a folder: packages built with dpkg-deb, lists signed with a key of its own."""

from __future__ import annotations

import hashlib
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dmaproof.guest.packages import Site

_SUITE, _POOL = "dists/sid", "pool"


@dataclass(frozen=True)
class FolderArchive:
    folder: Path
    home: Path

    @property
    def site(self) -> Site:
        return Site(f"file://{self.folder}", "debian", self.folder / "key.gpg")

    def package(
        self,
        name: str,
        files: Mapping[str, str | bytes],
        *,
        version: str = "1.0",
        depends: str = "",
        arch: str = "amd64",
    ) -> Path:
        tree = self.folder / "trees" / name
        for path, content in files.items():
            file = tree / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.encode() if isinstance(content, str) else content)
            file.chmod(0o755)
        control = tree / "DEBIAN/control"
        control.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"Package: {name}", f"Version: {version}", f"Architecture: {arch}", "Maintainer: T <t@example.org>"]
        lines += [f"Depends: {depends}"] if depends else []
        control.write_text("\n".join([*lines, "Description: of a test", ""]))
        built = self.folder / _POOL / f"{name}_{version}_{arch}.deb"
        built.parent.mkdir(exist_ok=True)
        call("dpkg-deb", "--root-owner-group", "--build", tree, built)
        return built

    def publish(self, arch: str = "amd64") -> None:
        """Write and sign the lists of all packages built so far."""
        suite = self.folder / _SUITE
        packages = suite / f"main/binary-{arch}/Packages"
        packages.parent.mkdir(parents=True, exist_ok=True)
        packages.write_text("\n".join(_stanza(self.folder, one) for one in sorted((self.folder / _POOL).iterdir())))
        digest, size = hashlib.sha256(packages.read_bytes()).hexdigest(), packages.stat().st_size
        head = f"Origin: Debian\nSuite: unstable\nCodename: sid\nArchitectures: {arch}\nComponents: main\n"
        date = "Date: Sat, 21 Nov 2020 12:00:00 UTC\n"
        (suite / "Release").write_text(f"{head}{date}SHA256:\n {digest} {size} main/binary-{arch}/Packages\n")
        (suite / "InRelease").unlink(missing_ok=True)
        call("gpg", "--homedir", self.home, "--batch", "--clearsign", "-o", suite / "InRelease", suite / "Release")


@contextmanager
def made(folder: Path) -> Iterator[FolderArchive]:
    """An empty archive, and its key."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:  # the agent's sockets are there, whose names are short
        try:
            yield _with_key(folder, Path(home))
        finally:
            subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=False, timeout=20)


def _with_key(folder: Path, home: Path) -> FolderArchive:
    user = "T <t@example.org>"
    call(
        "gpg",
        "--homedir",
        home,
        "--batch",
        "--passphrase",
        "",
        "--quick-generate-key",
        user,
        "ed25519",
        "sign",
        "never",
    )
    call("gpg", "--homedir", home, "--batch", "--export", "-o", folder / "key.gpg", user)
    return FolderArchive(folder, home)


def _stanza(folder: Path, deb: Path) -> str:
    control = call("dpkg-deb", "--field", deb)
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    return f"{control}Filename: {deb.relative_to(folder)}\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"


def call(*words: str | Path) -> str:
    return subprocess.run([str(one) for one in words], check=True, capture_output=True, text=True, timeout=60).stdout
