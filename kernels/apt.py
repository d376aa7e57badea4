# SPDX-License-Identifier: GPL-2.0-only
"""A private apt: the machine's own Debian archive with more suites; the machine's apt is left alone.

apt fetches and verifies: signatures with the keyring the machine trusts for that archive, indexes and packages by
their checksums. Which archive, and how to reach it, is read from the machine's own sources and apt.conf.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

from common import cache
from common.errors import HostError

Fields = dict[str, str]
"""A deb822 stanza, keys in lower case."""

ETC = Path("/etc/apt")
HELPER = Path("/usr/lib/apt/apt-helper")

# A leftover apt would hold its lock against the next run.
_DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")

# Fields of a stanza that we replace.
_DROPPED = {"enabled", "types", "uris", "suites", "components", "architectures", "languages", "targets", "pdiffs"}
_OPTIONS = {"arch": "architectures", "lang": "languages", "target": "targets"}
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)")

# apt 3 has two styles of output: E: and Error:.
_MESSAGE = re.compile(r"^(E|W|Error|Warning): (.*\S)", re.MULTILINE)
_LOGIN = re.compile(r"(?P<scheme>[a-z+]+://)(?P<login>[^/@\s]*(?:@[^/@\s]*)*)@")
_LOGIN_ANYWHERE = re.compile(r"(?P<scheme>\b[a-z+]+://)[^/\s]*@")
_NO_SUCH_SUITE = (
    "404 ",
    "No such file or directory",
    "File not found",
    "does not have a Release file",
    "Some index files failed",
)

_CONFIGURATION = """\
Dir::State "{home}/";
Dir::State::lists "{home}/lists/";
Dir::State::status "/dev/null";
Dir::Cache "{home}/";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{home}/sources/";
Dir::Etc::netrc "{home}/auth.conf";
Acquire::PDiffs "false";
Acquire::GzipIndexes "true";
Acquire::IndexTargets::deb::Packages::KeepCompressedAs "xz";
Acquire::Retries "1";
Acquire::Retries::Delay "false";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
pkgCacheFile::Generate "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """One archive of the machine's sources, with its options."""

    uri: str
    options: tuple[tuple[str, str], ...]
    suites: tuple[str, ...]
    login: str = field(default="", repr=False)
    """`user:password`, if its address has one; only apt may see it."""

    def stanza(self) -> str:
        """Return it as a deb822 stanza for the indexes with kernels only."""
        fields = {
            "Types": "deb",
            "URIs": self.uri,
            "Suites": " ".join(self.suites),
            "Components": "main",
            "Architectures": "amd64",
            "Languages": "none",
            "Targets": "Packages",
            **{key.title(): value for key, value in self.options},
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items())


@dataclass(frozen=True, slots=True)
class Index:
    """The verified index of one suite."""

    uri: str
    suite: str
    alias: str
    """The suite's other name: `stable-backports` for `trixie-backports`."""
    packages: Path


class Apt:
    """Our own apt below the cache directory."""

    def __init__(self, etc: Path | None = None) -> None:
        self.home = cache.root() / "apt"
        self._etc = etc or ETC
        self.archives = archives(self._etc)

    @property
    def fingerprint(self) -> str:
        """A fingerprint of the archives: an index of other archives is not valid."""
        return hashlib.sha256(self._sources().encode()).hexdigest()[:16]

    def update(self) -> list[str]:
        """Fetch and verify the indexes; returns apt's errors about archives that it could not reach or verify.

        A suite that the archive lacks is not an error. Earlier indexes stay valid while the archive is unreachable.
        """
        with cache.explained(self.home):
            for folder in ("lists/partial", "archives/partial", "sources"):
                (self.home / folder).mkdir(parents=True, exist_ok=True)
            (self.home / "apt.conf").write_text(_CONFIGURATION.format(home=self.home))
            (self.home / "sources" / "debian.sources").write_text(self._sources())
            for path in self.home.glob("offers-*.json"):
                if path.name != f"offers-{self.fingerprint}.json":
                    path.unlink()  # of other sources; older versions of this suite stored logins there
            _write_secret(self.home / "auth.conf", self._logins())
        done = self._run([_tool("apt-get"), "--config-file", str(self.home / "apt.conf"), "update"])
        return errors(done.stdout + done.stderr)

    def indexes(self) -> Iterator[Index]:
        """Yield the indexes that are there and come from Debian."""
        for archive in self.archives:
            for suite in archive.suites:
                stem = self.home / "lists" / _list_name(f"{archive.uri.rstrip('/')}/dists/{suite}/")
                release = _release(stem)
                packages = next(stem.parent.glob(f"{stem.name}main_binary-amd64_Packages*"), None)
                if packages is not None and release.get("origin", "").startswith("Debian"):
                    yield Index(archive.uri, suite, release.get("suite", suite), packages)

    def text(self, index: Index) -> bytes:
        """Return the text of an index, in whatever compression apt stores it."""
        return subprocess.run([_tool(HELPER), "cat-file", str(index.packages)], capture_output=True, check=True).stdout

    def download(self, uri: str, sha256: str, target: Path) -> None:
        """Fetch a file and verify it; HostError if it cannot be fetched or differs from the index."""
        # fmt: off
        done = self._run([
            _tool(HELPER), "--config-file", str(self.home / "apt.conf"),
            "download-file", uri, str(target), f"SHA256:{sha256}",
        ])
        # fmt: on
        if done.returncode == 0 and target.is_file():
            return
        target.unlink(missing_ok=True)
        reason = _errors(done.stderr) or [f"apt-helper ended with status {done.returncode}"]
        if any("Hash Sum mismatch" in line or "unexpected size" in line for line in reason):
            raise HostError(
                f"{uri} is not what the signed index promises: it was truncated or changed on the way",
                hint="try again; if it fails again, try another mirror in /etc/apt/sources.list.d",
            )
        raise HostError(f"cannot download {uri}: {reason[-1]}", hint=REACH_HINT)

    def _logins(self) -> str:
        """Return the text of apt_auth.conf(5): the machine's own, which ours replaces, and the logins of addresses."""
        own = self._etc / "auth.conf"
        lines = [own.read_text(errors="replace")] if own.is_file() and os.access(own, os.R_OK) else []
        for archive in self.archives:
            if archive.login:
                user, _, password = archive.login.partition(":")
                lines.append(f"machine {archive.uri.rstrip('/')} login {unquote(user)} password {unquote(password)}\n")
        return "\n".join(lines)

    def _sources(self) -> str:
        return "\n".join(archive.stanza() for archive in self.archives)

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*_DIE_WITH_PARENT, *command],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
        if "No space left on device" in done.stdout + done.stderr:
            raise HostError(
                f"no space left while writing {self.home}",
                hint=f"free some space below {cache.root()}, or set XDG_CACHE_HOME",
            )
        return done


_UNBELIEVED = ("GPG error", "is not signed")
_TRUST_HINT = (
    "look at `apt-get update`: a mirror may be in the middle of an update, a key may be missing in signed-by, or"
    " somebody has changed the file"
)
REACH_HINT = (
    "check the network and `apt-get update`, or give a kernel that is here: a directory, a file, installed:RELEASE"
)


def archives(etc: Path) -> list[Archive]:
    """Return the Debian archives in apt's sources below `etc`, each with every suite that may hold kernels."""
    families = _families()
    found: dict[tuple[str, int], Archive] = {}
    for stanza in _stanzas(etc):
        if "deb" not in stanza.get("types", "").split() or "main" not in stanza.get("components", "").split():
            continue
        named = set(stanza.get("suites", "").split())
        options = tuple((key, value) for key, value in stanza.items() if key not in _DROPPED)
        for address in stanza.get("uris", "").split():
            uri, login = _parted(address)
            for number, (known, wanted) in enumerate(families):
                if named & known and not uri.startswith("cdrom:"):
                    found.setdefault((uri, number), Archive(uri, options, wanted, login))
    if not found:
        raise HostError(
            f"apt's sources in {etc} name no Debian archive",
            hint="add one, or give a kernel that is here: a directory, a file, installed:RELEASE",
        )
    return list(found.values())


def errors(output: str) -> list[str]:
    """Return the errors of `apt-get update` about unreachable or unverified archives; missing suites are not errors."""
    serious = ("Failed to fetch", "GPG error", "signature")
    said = _MESSAGE.findall(output)
    return [
        _without_logins(text)
        for kind, text in said
        if (kind[0] == "E" or any(word in text for word in serious))
        and not any(word in text for word in _NO_SUCH_SUITE)
    ]


def unusable(errors: Sequence[str]) -> HostError:
    """Return why there is no index, by apt's messages: the archive is unreachable, or has no trusted signature."""
    for sign in _UNBELIEVED:
        if said := next((each for each in errors if sign in each), ""):
            return HostError(f"the Debian archive cannot be trusted: {said}", hint=_TRUST_HINT)
    why = errors[-1] if errors else "no suite has a kernel for amd64"
    return HostError(f"the Debian archive does not answer: {why}", hint=REACH_HINT)


def _parted(address: str) -> tuple[str, str]:
    """Return an address without its login, and the login."""
    match = _LOGIN.match(address)
    return (match["scheme"] + address[match.end() :], match["login"]) if match is not None else (address, "")


def _without_logins(text: str) -> str:
    """Return apt's output without the logins in addresses, e.g. of a proxy."""
    return _LOGIN_ANYWHERE.sub(r"\g<scheme>", text)


def _write_secret(path: Path, text: str) -> None:
    """Write a file that only this user may read, from the first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)


def _families() -> tuple[tuple[set[str], tuple[str, ...]], ...]:
    """For the main and the security archive: its names, and its suites."""
    names = tomllib.loads(Path(__file__).with_name("suites.toml").read_text())
    releases, every = names["releases"], [*names["releases"], *names["rolling"], *names["aliases"]]
    main = {f"{name}{suffix}" for name in every for suffix in ("", "-updates", "-backports", "-proposed-updates")}
    return (
        (main, (*releases, *(f"{name}-backports" for name in releases), *names["rolling"])),
        ({f"{name}-security" for name in every}, tuple(f"{name}-security" for name in releases)),
    )


def _stanzas(etc: Path) -> Iterator[Fields]:
    parts = etc / "sources.list.d"
    for path in [etc / "sources.list", *sorted(parts.glob("*.list")), *sorted(parts.glob("*.sources"))]:
        if not path.is_file():
            continue
        lines = [line for line in path.read_text(errors="replace").splitlines() if not line.lstrip().startswith("#")]
        found = _deb822(lines) if path.suffix == ".sources" else map(_one_line, lines)
        yield from (
            stanza for stanza in found if stanza and stanza.get("enabled", "yes").lower() not in ("no", "false")
        )


def _deb822(lines: Iterable[str]) -> Iterator[Fields]:
    stanza: Fields = {}
    key = ""
    for line in [*lines, ""]:
        if not line.strip():
            yield stanza
            stanza = {}
        elif line[0].isspace():
            stanza[key] = f"{stanza.get(key, '')}\n{line}"  # an embedded keyring, or a list gone long
        else:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            stanza[key] = value.strip()


def _one_line(line: str) -> Fields:
    match = _ONE_LINE.match(line.partition("#")[0].strip())
    if match is None:
        return {}
    stanza = {"types": "deb", "uris": match["uri"], "suites": match["suite"], "components": match["components"]}
    for option in (match["options"] or "").split():
        name, _, value = option.partition("=")
        stanza[_OPTIONS.get(name.lower(), name.lower())] = value.replace(",", " ")
    return stanza


def _list_name(uri: str) -> str:
    """Return apt's file name for the content of `uri`."""
    kept = uri.partition("://")[2] or uri.partition(":")[2]
    return quote(kept.rpartition("@")[2], safe="/:+~.-,;=()'").replace("_", "%5f").replace("/", "_")


def _release(stem: Path) -> Fields:
    for name in ("InRelease", "Release"):
        path = stem.with_name(stem.name + name)
        if path.is_file():
            head = path.read_text(errors="replace")[:4096].partition("SHA256:")[0].partition("MD5Sum:")[0]
            fields = (line.partition(":") for line in head.splitlines() if line[:1].isalpha())
            return {key.lower(): value.strip() for key, _, value in fields}
    return {}


def _errors(stderr: str) -> list[str]:
    return [_without_logins(text) for kind, text in _MESSAGE.findall(stderr) if kind[0] == "E"]


def _tool(name: str | Path) -> str:
    path = shutil.which(name)
    if path is None:
        raise HostError(
            f"{name} is not installed; apt fetches Debian's kernels",
            hint="on a machine without apt give a directory, a file or installed:RELEASE",
        )
    return path
