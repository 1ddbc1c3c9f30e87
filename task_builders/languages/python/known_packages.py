"""Known facts of the ecosystem: distributions by import name and by runner option, Debian packages by header. Tables only, no logic."""

BY_IMPORT = {
    "PIL": "pillow", "yaml": "pyyaml", "bs4": "beautifulsoup4", "cv2": "opencv-python-headless", "sklearn": "scikit-learn",
    "skimage": "scikit-image", "dateutil": "python-dateutil", "git": "gitpython", "github": "pygithub", "jwt": "pyjwt",
    "Crypto": "pycryptodome", "Cryptodome": "pycryptodomex", "OpenSSL": "pyopenssl", "zmq": "pyzmq", "serial": "pyserial",
    "usb": "pyusb", "magic": "python-magic", "docx": "python-docx", "pptx": "python-pptx", "dotenv": "python-dotenv",
    "ldap": "python-ldap", "MySQLdb": "mysqlclient", "psycopg2": "psycopg2-binary", "attr": "attrs", "pkg_resources": "setuptools",
    "jose": "python-jose", "slugify": "python-slugify", "ruamel": "ruamel.yaml", "grpc": "grpcio", "websocket": "websocket-client",
    "socks": "pysocks", "dns": "dnspython", "memcache": "python-memcached", "nacl": "pynacl", "gi": "pygobject", "cairo": "pycairo",
    "wx": "wxpython", "rest_framework": "djangorestframework", "vcr": "vcrpy", "factory": "factory-boy", "zope": "zope.interface",
    "pytest_lazyfixture": "pytest-lazy-fixture", "google": "protobuf",
}  # fmt: skip
"""Top-level module → distribution, if the names differ by more than case and `_` for `-`."""

GONE_FROM_STANDARD_LIBRARY = frozenset({
    "aifc", "asynchat", "asyncore", "audioop", "binhex", "cgi", "cgitb", "chunk", "crypt", "distutils", "formatter", "imghdr", "imp",
    "lib2to3", "macpath", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "parser", "pipes", "smtpd", "sndhdr", "spwd", "sunau",
    "symbol", "telnetlib", "uu", "xdrlib",
    "BaseHTTPServer", "ConfigParser", "Cookie", "HTMLParser", "Queue", "SimpleHTTPServer", "SocketServer", "StringIO", "Tkinter",
    "UserDict", "UserList", "UserString", "anydbm", "cPickle", "cStringIO", "commands", "cookielib", "copy_reg", "dummy_thread",
    "dummy_threading", "exceptions", "htmlentitydefs", "httplib", "md5", "robotparser", "sets", "sha", "thread", "urllib2", "urlparse",
    "xmlrpclib",
})  # fmt: skip
"""Standard modules of some Python version: never a distribution's."""

BY_OPTION = {
    "--cov": "pytest-cov", "--no-cov": "pytest-cov", "--asyncio-mode": "pytest-asyncio", "--benchmark": "pytest-benchmark",
    "--ds": "pytest-django", "--reuse-db": "pytest-django",
    "--create-db": "pytest-django", "--nomigrations": "pytest-django", "--no-migrations": "pytest-django",
    "--timeout": "pytest-timeout", "--reruns": "pytest-rerunfailures", "-n": "pytest-xdist",
    "--numprocesses": "pytest-xdist", "--dist": "pytest-xdist", "--forked": "pytest-forked", "--mypy": "pytest-mypy",
    "--mypy-ini-file": "pytest-mypy-plugins", "--mypy-only-local-stub": "pytest-mypy-plugins",
    "--mypy-pyproject-toml-file": "pytest-mypy-plugins",
    "--vcr-record": "pytest-vcr", "--record-mode": "pytest-recording", "--block-network": "pytest-recording",
    "--disable-socket": "pytest-socket", "--allow-hosts": "pytest-socket",
    "--allow-unix-socket": "pytest-socket", "--snapshot": "syrupy", "--flakes": "pytest-flakes",
    "--doctest-plus": "pytest-doctestplus", "--doctest-rst": "pytest-doctestplus", "--nbval": "nbval",
    "--subprocess-vcr": "pytest-subprocess",
    "--remote-data": "pytest-remotedata", "--mpl": "pytest-mpl", "--arraydiff": "pytest-arraydiff", "--regtest": "pytest-regtest",
    "--force-regen": "pytest-regressions", "--loop": "pytest-aiohttp",
    "--aiohttp": "pytest-aiohttp", "--hypothesis-profile": "hypothesis", "--hypothesis-show-statistics": "hypothesis",
    "--hypothesis-seed": "hypothesis", "--run-slow": "pytest-skip-slow", "--runslow": "pytest-skip-slow", "--black": "pytest-black",
    "--typeguard-packages": "typeguard", "--beartype-packages": "pytest-beartype", "--spec": "pytest-spec",
    "--markdown-docs": "pytest-markdown-docs", "--ruff": "pytest-ruff", "--env": "pytest-env",
}  # fmt: skip
"""Option of the runner → the plugin that defines it; the longest prefix wins."""

BY_FIXTURE = {
    "mocker": "pytest-mock", "benchmark": "pytest-benchmark", "httpserver": "pytest-httpserver", "httpx_mock": "pytest-httpx",
    "requests_mock": "requests-mock", "datadir": "pytest-datadir",
    "shared_datadir": "pytest-datadir", "lazy_datadir": "pytest-datadir", "data_regression": "pytest-regressions",
    "file_regression": "pytest-regressions", "freezer": "pytest-freezegun", "aiohttp_client": "pytest-aiohttp",
    "test_client": "pytest-aiohttp",
    "event_loop": "pytest-asyncio", "subtests": "pytest-subtests", "fs": "pyfakefs", "fp": "pytest-subprocess",
    "fake_process": "pytest-subprocess", "snapshot": "syrupy", "faker": "faker", "db": "pytest-django", "settings": "pytest-django",
    "rf": "pytest-django", "admin_client": "pytest-django", "django_user_model": "pytest-django", "responses": "pytest-responses",
    "qtbot": "pytest-qt", "xprocess": "pytest-xprocess", "check": "pytest-check", "vcr": "pytest-vcr",
    "script_runner": "pytest-console-scripts", "tornado_io_loop": "pytest-tornado", "http_client": "pytest-tornado",
    "live_server": "pytest-django", "socket_enabled": "pytest-socket", "nursery": "pytest-trio", "cov": "pytest-cov",
}  # fmt: skip
"""Fixture → the plugin that provides it."""

BY_HEADER = {
    "ffi.h": "libffi-dev", "libxml/xmlversion.h": "libxml2-dev", "libxml/xpath.h": "libxml2-dev", "libxslt/xslt.h": "libxslt1-dev",
    "openssl/ssl.h": "libssl-dev", "openssl/opensslv.h": "libssl-dev",
    "libpq-fe.h": "libpq-dev", "mysql.h": "default-libmysqlclient-dev", "sqlite3.h": "libsqlite3-dev", "zlib.h": "zlib1g-dev",
    "jpeglib.h": "libjpeg-dev", "ft2build.h": "libfreetype6-dev", "png.h": "libpng-dev",
    "yaml.h": "libyaml-dev", "lber.h": "libldap2-dev", "sasl.h": "libsasl2-dev", "cairo.h": "libcairo2-dev", "gmp.h": "libgmp-dev",
    "mpfr.h": "libmpfr-dev", "mpc.h": "libmpc-dev", "curl/curl.h": "libcurl4-openssl-dev",
    "magic.h": "libmagic-dev", "bzlib.h": "libbz2-dev", "lzma.h": "liblzma-dev", "readline/readline.h": "libreadline-dev",
    "ev.h": "libev-dev", "uv.h": "libuv1-dev", "zmq.h": "libzmq3-dev", "hdf5.h": "libhdf5-dev",
    "geos_c.h": "libgeos-dev", "proj.h": "libproj-dev", "gdal.h": "libgdal-dev", "enchant.h": "libenchant-2-dev",
    "snappy-c.h": "libsnappy-dev", "leveldb/db.h": "libleveldb-dev", "re2/re2.h": "libre2-dev", "ncurses.h": "libncurses-dev",
    "krb5.h": "libkrb5-dev", "gssapi/gssapi.h": "libkrb5-dev", "portaudio.h": "portaudio19-dev", "alsa/asoundlib.h": "libasound2-dev",
    "security/pam_appl.h": "libpam0g-dev", "systemd/sd-daemon.h": "libsystemd-dev", "archive.h": "libarchive-dev",
}  # fmt: skip
"""C header → Debian package."""

BY_PROGRAM = {
    "gcc": "build-essential", "cc": "build-essential", "g++": "build-essential", "c++": "build-essential",
    "x86_64-linux-gnu-gcc": "build-essential",
    "make": "build-essential", "cmake": "cmake", "pg_config": "libpq-dev", "mysql_config": "default-libmysqlclient-dev",
    "xml2-config": "libxml2-dev", "xslt-config": "libxslt1-dev", "pkg-config": "pkg-config", "swig": "swig", "gfortran": "gfortran",
    "curl-config": "libcurl4-openssl-dev", "krb5-config": "libkrb5-dev", "rustc": "rustc", "cargo": "cargo",
    "redis-server": "redis-server", "ffmpeg": "ffmpeg", "node": "nodejs", "hg": "mercurial", "svn": "subversion", "gpg": "gnupg",
    "dot": "graphviz", "unzip": "unzip", "zip": "zip", "less": "less", "man": "man-db", "bison": "bison", "flex": "flex",
    "patchelf": "patchelf",
}  # fmt: skip
"""Program → Debian package."""

DEVELOPMENT_TOOLS = frozenset({
    "tox", "tox-uv", "tox-uv-bare", "tox-gh-actions", "tox-venv", "tox-travis", "nox", "black", "flake8", "flake8-bugbear", "isort",
    "pylint", "ruff", "pre-commit", "pre-commit-uv", "prek", "bandit", "pyflakes", "pycodestyle", "pydocstyle", "pep8", "autopep8",
    "yapf",
    "twine", "build", "check-manifest", "bump2version", "bumpversion", "towncrier", "codecov", "coveralls", "python-coveralls",
    "codacy-coverage", "pyroma", "readme-renderer", "sphinx", "sphinx-rtd-theme", "sphinx-autobuild", "furo", "mkdocs",
    "mkdocs-material", "pyright", "ty",
    "pyrefly", "mypy", "flit", "hatch", "poetry", "pdm", "pipenv", "uv", "cibuildwheel", "zest-releaser", "gitlint", "commitizen",
    "semantic-release", "python-semantic-release", "safety", "vulture", "radon", "interrogate", "detox", "ipython", "ipdb", "jupyter",
    "notebook",
    "pytest-black", "pytest-flake8", "pytest-pep8", "pytest-isort", "pytest-pylint", "pytest-ruff", "pytest-pycodestyle",
    "pytest-sugar", "pytest-randomly", "pytest-random-order", "pytest-codspeed", "pytest-checkdocs", "pytest-enabler", "pytest-memray",
})  # fmt: skip
"""Developers' tools that suites do not need. Kept only if a test imports them."""

DEVELOPMENT_TOOL_PREFIXES = ("flake8-", "pylint-", "sphinx-", "sphinxcontrib-", "mkdocs-", "pep8-", "pre-commit-")

NOT_BEFORE = {
    "atomicwrites": "2023-01-01T00:00:00Z",
    "pip": "2019-06-01T00:00:00Z",
    "setuptools": "2019-03-01T00:00:00Z",
    "wheel": "2019-03-01T00:00:00Z",
}
"""Distributions that are taken as of this date if the commit is older. The first one's old releases were deleted and uploaded again, so by
the index's dates they did not exist. Old releases of the others cannot do editable installs without a build environment, and the installer
builds no source distribution with them.
"""
