"""dmaproof.guest.init as the first process of a PID namespace: there reboot(2) ends the namespace, and what is mounted
is mounted for nobody else (pid_namespaces(7), mount_namespaces(7)).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ALONE = ["unshare", "--pid", "--fork", "--mount", "--net", "--kill-child"]
_SCRIPT = """
import os, sys
assert os.getpid() == 1, "not the first process: it would switch this system off"
from dmaproof.guest import agent, init
{agent}
agent.main = work
init.main()
print("init returned")
"""


def may_unshare() -> bool:
    return subprocess.run([*_ALONE, "true"], capture_output=True, timeout=20, check=False).returncode == 0


def run(agent: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("unshare") is None or not may_unshare():
        pytest.skip("this process may not make namespaces (unshare)")
    command = [*_ALONE, sys.executable, "-P", "-c", _SCRIPT.format(agent=agent)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_when_the_agent_ends_the_console_says_so_and_the_machine_is_off() -> None:
    said = run("def work(): raise OSError('no such port')")
    assert "OSError: no such port" in said.stderr
    assert "init error: the agent ended (status 1)" in said.stderr
    assert "init returned" not in said.stdout
    assert said.returncode != 0


def test_the_agent_finds_a_machine_and_its_orphans_are_taken_in(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    seen.write_text("")
    said = run(
        "import subprocess, time\n"
        "from pathlib import Path\n"
        "def state(pid):\n"
        "    try: return Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]\n"
        "    except OSError: return 'gone'\n"
        "def work():\n"
        "    script = 'sleep 0.2 >/dev/null 2>&1 & echo $!'\n"
        "    orphan = int(subprocess.run(['sh', '-c', script], capture_output=True).stdout)\n"
        "    for _ in range(500):\n"
        "        if state(orphan) == 'gone': break\n"
        "        time.sleep(0.01)\n"
        "    mounted = [line.split()[1] for line in open('/proc/mounts')]\n"
        "    print(state(orphan), os.getsid(0) == os.getpid(), *mounted[-9:])\n"
        "    print(os.environ['HOME'], os.environ['PATH'].split(':')[0], os.path.exists('/dev/kmsg'))\n"
        f"    print('project' if os.path.exists({str(Path(__file__))!r}) else 'nothing')\n"
        "    print(Path('/sys/class/net/lo/flags').read_text().strip())\n"
        "    sys.stdout.flush()\n"
    )
    assert "modprobe" not in said.stderr  # this system's own list of modules is not the lab host's
    first, second, third, lo = said.stdout.splitlines()
    assert first.startswith("gone True")
    for place in ("/dev/shm", "/run", "/tmp"):
        assert place in first.split()
    assert second == "/root /usr/local/sbin True"
    assert third == "project"
    assert "the agent ended (status 1)" in said.stderr  # not the orphan, whose status was 0
    assert lo == "0x9", "LOOPBACK and UP, for it is the agent's way into a guest with a disk image"
    assert not Path("/run/scratch").exists()  # all of it was the namespace's own
