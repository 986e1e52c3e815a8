"""The JavaScript client of an installed wheel, collected as a project does it, in a browser."""

from __future__ import annotations

import functools
import http.server
import json
import subprocess
import sys
import sysconfig
import threading
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.distribution import build_wheel
from tests.whole.test_demo import browsing, until

# Whitenoise and CDNs keep files for ever, so a project gives them names that change with them.
COLLECT = """
import json, sys
import django
from django.conf import settings
from django.core.management import call_command
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage, staticfiles_storage

class Storage(ManifestStaticFilesStorage):
    support_js_module_import_aggregation = True

settings.configure(
    INSTALLED_APPS=["django.contrib.staticfiles", "rest_channels"],
    STATIC_URL="/static/",
    STATIC_ROOT=sys.argv[1],
    STORAGES={"staticfiles": {"BACKEND": f"{__name__}.Storage"}},
    SECRET_KEY="of this test",
)
django.setup()
call_command("collectstatic", interactive=False, verbosity=0)
import rest_channels
url = staticfiles_storage.url("rest_channels/client.js")
print(json.dumps({"package": rest_channels.__file__, "url": url}))
"""

# Each step needs modules that are loaded only then. No server of sockets is there to answer.
PAGE = """<!doctype html><script type="module">
import {{ ApiError, connect }} from "{url}";
const api = connect("/", {{ persist: "session", user: 1 }});
const list = api.messages.live({{ window: 5 }});
api.messages.watch("list");
api.here.join("hall");
const change = list[Symbol.asyncIterator]().next();
document.title = [typeof ApiError, list.status, change instanceof Promise].join();
</script>"""


class Handler(http.server.SimpleHTTPRequestHandler):
    answers: list[tuple[str, int]]

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        self.answers.append((self.path, int(code)))


@contextmanager
def serving(directory: Path) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """Serve files; yield the address, and what was answered."""
    answers: list[tuple[str, int]] = []
    handler = functools.partial(type("Own", (Handler,), {"answers": answers}), directory=directory)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", answers
        finally:
            server.shutdown()
            thread.join()


def install(wheel: Path, directory: Path) -> Path:
    """Install the wheel into an environment of its own; return its Python."""
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
    # Its requirements are there already, in the environment of the tests.
    (packages,) = directory.glob("lib/python*/site-packages")
    (packages / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return python


def test_the_client_of_an_installed_wheel_runs_in_a_browser(require_chromium, tmp_path):
    python = install(build_wheel(tmp_path), tmp_path / "venv")
    root = tmp_path / "root"
    script = tmp_path / "collect.py"
    script.write_text(COLLECT)
    command = [str(python), str(script), str(root / "static")]
    collected = json.loads(subprocess.check_output(command, cwd=tmp_path))
    assert Path(collected["package"]).is_relative_to(tmp_path / "venv")
    (root / "index.html").write_text(PAGE.format(url=collected["url"]))

    def names(answers: list[tuple[str, int]]) -> set[str]:
        """The modules that were sent, without the hashes in their names."""
        return {path.rpartition("/")[2].partition(".")[0] for path, code in answers if code == 200}

    lazy = {"iterators", "live", "room", "session", "watch"}
    with serving(root) as (address, answers), browsing() as browser:
        browser.get(address)
        until(browser, lambda: lazy <= names(answers))
        until(browser, lambda: browser.title)
        assert browser.title == "function,connecting,true"
        assert "client.js" not in str(answers)
        missing = [path for path, code in answers if code == 404 and path.endswith(".js")]
        assert missing == []
