"""Sets up `.venv` from the lock files, on a machine that has CPython, pip and nothing else.

    python3 tools/bootstrap.py run     what `bide` needs
    python3 tools/bootstrap.py dev     that, and what the tests, the linters and the benchmark need
    python3 tools/bootstrap.py lock    makes the lock files anew from pyproject.toml

The installer is the `uv` on PATH, else the locked one in `.bootstrap`, else plain venv and pip. All three install
the same locked, hashed files from wherever this machine's pip gets its packages. A stamp in `.venv` says what is
there, so a second run does nothing. Standard library only; it must start on any Python 3, to be able to refuse it.
"""

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "bide-set-up"
TOOLS = ROOT / ".bootstrap"
LOCKS = {"run": ROOT / "requirements.lock", "dev": ROOT / "requirements-dev.lock"}
TOOLS_LOCK = ROOT / "requirements-tools.lock"
OLDEST = (3, 11)
UV_OLDEST, UV_NEXT = (0, 11), (1,)  # as `build-system` in pyproject.toml: such a uv builds bide by itself
COMPILE = ("pip", "compile", "-q", "--upgrade", "--universal", "--generate-hashes", "--no-header", "--no-annotate")


def main():
    want = sys.argv[1] if len(sys.argv) == 2 else ""
    if want not in ("run", "dev", "lock"):
        sys.exit("usage: bootstrap.py run|dev|lock")
    check_python()
    os.chdir(str(ROOT))
    if want == "lock":
        make_locks()
    elif needs(want):
        set_up("dev" if want == "run" and stamped("dev") else want)


def check_python():
    """Ends with a sentence on a Python that bide does not run on."""
    if sys.version_info < OLDEST or sys.implementation.name != "cpython":
        found = f"{sys.implementation.name} {sys.version_info[0]}.{sys.version_info[1]}"
        sys.exit(
            f"bide needs CPython {OLDEST[0]}.{OLDEST[1]} or newer; {sys.executable} is {found}."
            " If a newer one is installed, name it: make serve PYTHON=python3.12"
        )
    if os.name != "posix":
        sys.exit("bide runs on Linux and macOS, not on Windows.")


# -- what is there


def state(kind):
    """What a set-up environment of this kind says of itself: it is redone when any of this changed."""
    digest = hashlib.sha256()
    for path in (LOCKS[kind], TOOLS_LOCK, ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return f"{kind} {digest.hexdigest()} {sys.version_info[0]}.{sys.version_info[1]} {ROOT}"


def needs(want):
    """Whether the environment lacks something. One for development has all that a run needs."""
    there = STAMP.read_text("utf-8") if STAMP.exists() and PYTHON.exists() else ""
    return there not in ((state("dev"),) if want == "dev" else (state("run"), state("dev")))


def stamped(kind):
    return STAMP.exists() and STAMP.read_text("utf-8").startswith(kind + " ")


# -- setting up


def set_up(kind):
    print(f"Setting up .venv ({LOCKS[kind].name}) ...", flush=True)
    uv = find_uv()
    if uv is None or not set_up_with_uv(uv, LOCKS[kind]):
        set_up_with_pip(LOCKS[kind])
    # Start-up time is mostly this; the flag that keeps Python from writing byte code does not matter here.
    run(PYTHON, "-m", "compileall", "-q", "src/bide", check=False)
    STAMP.write_text(state(kind), "utf-8")


def find_uv():
    """A uv that can build bide by itself: that of PATH, else the locked one, else None."""
    for candidate in (shutil.which("uv"), str(TOOLS / "bin" / "uv")):
        if candidate and fits(candidate):
            return candidate
    shutil.rmtree(str(TOOLS), ignore_errors=True)
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "--target", TOOLS, "-r", TOOLS_LOCK, check=False)
    uv = str(TOOLS / "bin" / "uv")
    return uv if fits(uv) else None


def fits(uv):
    try:
        said = subprocess.run([uv, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    found = re.search(r"(\d+)\.(\d+)", said.decode())
    return bool(found) and UV_OLDEST <= (int(found[1]), int(found[2])) < UV_NEXT


def set_up_with_uv(uv, lock):
    """False when uv could not; what it said is on the terminal."""
    environment = uv_environment()
    pip = (uv, "pip")
    into = ("--python", PYTHON, "--compile-bytecode")
    return (
        (usable() or run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, VENV, env=environment))
        and run(*pip, "sync", "--quiet", "--require-hashes", *into, lock, env=environment)
        and run(*pip, "install", "--quiet", "--no-deps", "--offline", *into, "-e", ".", env=environment)
    )


def set_up_with_pip(lock):
    print("uv is not to be had here or failed: using venv and pip, which takes longer.", flush=True)
    run(sys.executable, "-m", "venv", "--clear", VENV, check=True)
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--require-hashes", "-r", lock, check=True)
    run(*pip, "--require-hashes", "-r", TOOLS_LOCK, check=True)  # the build backend
    on_path = dict(
        os.environ, PATH=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    )  # where it is looked for
    run(*pip, "--no-deps", "--no-build-isolation", "-e", ".", check=True, env=on_path)


def usable():
    """Whether `.venv` is an environment of this Python, and was not set up at another place and moved."""
    home = f"home = {Path(os.path.realpath(sys.executable)).parent}\n"
    config = VENV / "pyvenv.cfg"
    here = not STAMP.exists() or STAMP.read_text("utf-8").endswith(f" {ROOT}")
    return here and PYTHON.exists() and config.exists() and home in config.read_text("utf-8")


def uv_environment():
    """The environment for uv, which does not read pip's configuration: where packages come from, certificates.

    A uv that has settings of its own is left alone.
    """
    environment = dict(os.environ, UV_PYTHON_DOWNLOADS="never")
    environment.pop("VIRTUAL_ENV", None)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    own = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE", "UV_FIND_LINKS")
    if any(name in os.environ for name in own) or (config / "uv" / "uv.toml").exists():
        return environment
    pip = pip_settings()
    translated = {
        "UV_DEFAULT_INDEX": pip.get("index-url"),
        "UV_INDEX": " ".join(pip.get("extra-index-url", "").split()),
        "UV_FIND_LINKS": ",".join(pip.get("find-links", "").split()),
        "UV_INSECURE_HOST": " ".join(pip.get("trusted-host", "").split()),
        "UV_NO_INDEX": "true" if pip.get("no-index", "").lower() in ("1", "true", "yes", "on") else "",
        "SSL_CERT_FILE": pip.get("cert"),
        "UV_HTTP_TIMEOUT": pip.get("timeout") or pip.get("default-timeout"),
        # pip looks at all indexes; the hashes of the lock say which files are right
        "UV_INDEX_STRATEGY": "unsafe-best-match" if pip.get("extra-index-url") else "",
    }
    for name, value in translated.items():
        if value:
            environment.setdefault(name, value)
    return environment


def pip_settings():
    """pip's own view of its configuration: files and environment, the later wins. Empty when there is no pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False).stdout.decode()
    found = {}
    for section in ("global.", "install.", ":env:."):
        for line in said.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section):
                try:
                    found[name[len(section) :]] = str(ast.literal_eval(value))
                except (ValueError, SyntaxError):
                    continue
    return found


# -- locking


def make_locks():
    uv = find_uv() or sys.exit("uv is needed to make the lock files, and could not be installed.")
    environment = uv_environment()
    for name in ("UV_INDEX", "UV_FIND_LINKS"):  # a mirror of a few files would give a lock of a few hashes
        environment.pop(name, None)
    project = "pyproject.toml"
    run(uv, *COMPILE, project, "-o", LOCKS["run"].name, env=environment, check=True)
    run(uv, *COMPILE, project, "--group", "dev", "-c", LOCKS["run"].name, "-o", LOCKS["dev"].name,
        env=environment, check=True)  # fmt: skip
    run(uv, *COMPILE, "--group", "tools", "-o", TOOLS_LOCK.name, env=environment, check=True)


def run(*command, check=False, env=None):
    """Runs a command. True when it ended well; with `check`, ends this program when it did not."""
    env = dict(os.environ if env is None else env, PIP_ROOT_USER_ACTION="ignore")  # a container's user is root
    code = subprocess.run([str(part) for part in command], env=env, check=False).returncode
    if code and check:
        sys.exit(code)
    return code == 0


if __name__ == "__main__":
    main()
