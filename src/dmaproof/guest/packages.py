"""Packages of a suite of the distribution, downloaded and unpacked by an ordinary user, never installed.

apt does what it always does, with lists, state and a cache of its own: it finds the system's own site, checks the
signature with the distribution's keyring, resolves dependencies, and downloads. An empty dpkg status makes the closure
whole, down to the C library, so that what is unpacked runs by its own loader on an older system.
"""

from __future__ import annotations

import platform
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from dmaproof.errors import UsageError
from dmaproof.guest import child, store
from dmaproof.guest.telling import Tell
from dmaproof.node.deadline import Deadline

ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}
"""Debian's names (dpkg --print-architecture) by the kernel's (uname -m)."""
_UPDATE_S, _FETCH_S, _UNPACK_S = 300.0, 1200.0, 300.0
_NEWEST = {"debian": ("sid", "main"), "ubuntu": ("devel", "main universe")}  # names that always are the newest suite
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Default-Release "";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::SourceList "{folder}/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "{folder}/state";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
"""
_FOLDERS = ("state/lists/partial", "cache/archives/partial")
_USELESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bash-completion")
_URI = re.compile(r"^'[^']+' ([^\s_]+)_([^\s_]+)_[^\s_]+\.deb \d+", re.MULTILINE)
_DOWNLOADED = re.compile(r"dlstatus:\d+:([\d.]+):")


@dataclass(frozen=True, slots=True)
class Package:
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Site:
    """A mirror of ``distribution`` ("debian", "ubuntu"), and the keys that sign its lists."""

    url: str
    distribution: str
    keyring: Path | None


@dataclass(frozen=True, slots=True)
class Archive:
    """A suite for one architecture: apt with a ``folder`` of its own. ``lock`` is the store's."""

    folder: Path
    distribution: str
    lock: int
    tell: Tell

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def apt(
        self,
        command: Sequence[str],
        timeout_s: float,
        line: Callable[[str], None] = lambda _text: None,
        folder: Path | None = None,
    ) -> str:
        """Run one of apt's tools on this archive, in ``folder``; returns its output. Errors are ``child.run``'s."""
        tool, *rest = command
        words = [tool, "-c", str(self.folder / "apt.conf"), "-q", *rest]
        return child.run(words, self.log, Deadline.after(timeout_s), line=line, keep=(self.lock,), folder=folder)


def archive(arch: str, lock: int, tell: Tell, site: Site | None = None, suite: str | None = None) -> Archive:
    """``suite`` (default: the newest) at ``site`` (default: the system's own) for ``arch`` (x86_64, aarch64), its lists
    fetched anew.

    Raises UsageError where this system has no apt, DmaproofError where the site does not answer or is not trusted.
    """
    folder = store.folder() / "apt" / "-".join([ARCHITECTURE[arch], *([suite] if suite else [])])
    for one in _FOLDERS:
        (folder / one).mkdir(parents=True, exist_ok=True)
    (folder / "log").write_bytes(b"")
    site = site or systems_own(folder / "log")
    (folder / "status").write_bytes(b"")
    (folder / "apt.conf").write_text(_CONFIGURATION.format(architecture=ARCHITECTURE[arch], folder=folder))
    (folder / "sources.list").write_text(sources_line(site, suite) + "\n")
    made = Archive(folder, site.distribution, lock, tell)
    tell("fetching package lists", "", None)
    made.apt(["apt-get", "update", "-o", "APT::Update::Error-Mode=any"], _UPDATE_S)
    return made


def systems_own(log: Path) -> Site:
    """Where the system's own lists come from, as apt itself says. Raises UsageError on a system without apt."""
    distribution = _distribution()
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    # without the option, it is silent of sites whose lists were never fetched
    command = ["apt-get", "indextargets", "--no-release-info", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"]
    rows = [row.split() for row in child.run(command, log, Deadline.after(_UPDATE_S)).splitlines()]
    sites = [row[0] for row in rows if row[1:] == [release]] or [row[0] for row in rows if len(row) > 1]
    if not sites:
        raise UsageError("apt knows no site (`apt-get indextargets` says nothing): give /etc/apt a list with `deb`")
    keyring = Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")
    return Site(sites[0], distribution, keyring if keyring.exists() else None)


def _distribution() -> str:
    said = platform.freedesktop_os_release()
    for name in (said.get("ID", ""), *said.get("ID_LIKE", "").split()):
        if name in _NEWEST and shutil.which("apt-get") and shutil.which("dpkg-deb"):
            return name
    raise UsageError(
        f"{said.get('PRETTY_NAME', 'this system')} has no apt-get of Debian or Ubuntu to unpack packages with: install "
        "QEMU by its own package manager, and name a kernel file of yours where one is asked for"
    )


def sources_line(site: Site, suite: str | None = None) -> str:
    """For sources.list(5). Without a keyring of its own, apt trusts the keys it trusts for all."""
    newest, components = _NEWEST[site.distribution]
    signed = f" signed-by={site.keyring}" if site.keyring else ""
    return f"deb [target=Packages{signed}] {site.url} {suite or newest} {components}"


def closure(archive: Archive, names: Sequence[str]) -> tuple[Package, ...]:
    """``names`` and all they depend on, nothing taken for installed."""
    said = archive.apt(["apt-get", "install", "-y", "--print-uris", *names], _UPDATE_S)
    return tuple(Package(name, unquote(version)) for name, version in _URI.findall(said))


def candidate(archive: Archive, name: str) -> Package:
    """The package ``name`` as it would be downloaded. Raises UsageError where the suite has none."""
    said = archive.apt(["apt-cache", "policy", name], _UPDATE_S)
    found = re.search(r"^  Candidate: (\S+)$", said, re.MULTILINE)
    if found is None or found[1] == "(none)":
        raise UsageError(f"{archive.distribution}'s suite has no package {name}; see {archive.log}")
    return Package(name, found[1])


def unpack(archive: Archive, packages: Sequence[Package], folder: Path) -> None:
    """Download ``packages`` and lay out what is in them under ``folder``, documentation left out.

    apt checks each against the signed lists. Where the lack of one fails, apt's last words are in the error.
    """
    downloads = folder / ".debs"
    downloads.mkdir(parents=True)
    wanted = [f"{one.name}={one.version}" for one in packages]
    command = ["apt-get", "download", "-o", "APT::Status-Fd=1", *wanted]
    archive.apt(command, _FETCH_S, _told(archive.tell, f"downloading {counted(packages)}"), downloads)
    files = sorted(downloads.glob("*.deb"))
    for number, file in enumerate(files):
        archive.tell("unpacking", file.name, number / len(files))
        child.run(["dpkg-deb", "-x", str(file), str(folder)], archive.log, Deadline.after(_UNPACK_S))
    for useless in (downloads, *(folder / one for one in _USELESS)):
        shutil.rmtree(useless, ignore_errors=True)


def counted(packages: Sequence[Package]) -> str:
    return packages[0].name if len(packages) == 1 else f"{len(packages)} packages"


def _told(tell: Tell, what: str) -> Callable[[str], None]:
    def line(text: str) -> None:
        if found := _DOWNLOADED.match(text):  # README.progress-reporting of apt
            tell(what, "", float(found[1]) / 100)

    return line
