"""One distribution, ``modelrunner``; tool settings live in pyproject.toml.

Ranges stand here, exact versions with hashes in the lock files that
``make lock`` writes. What ``modelrunner deploy`` ships carries a digest of its sources
behind the version, "+3f2a91c04d7e", which it gives by MODELRUNNER_BUILD.
"""

import os

from setuptools import find_packages, setup

setup(
    name="modelrunner",
    version="0.1.0" + os.environ.get("MODELRUNNER_BUILD", ""),
    description="Share a model: one program, a folder, and SSH.",
    python_requires=">=3.11",
    # modelrunner.py is a module, and a module cannot carry its types: a stub package does.
    packages=[
        "modelrunner-stubs",
        *find_packages(
            include=[
                name + suffix
                for name in ("primary", "ledger", "spool", "engine", "web", "client", "deploy")
                for suffix in ("", ".*")
            ]
        ),
    ],
    py_modules=["modelrunner", "worker_agent"],
    package_dir={"modelrunner-stubs": "client/stubs"},
    package_data={
        "web": ["views/*.html", "static/*"],
        "client": ["py.typed"],
        "modelrunner-stubs": ["*.pyi"],
    },
    install_requires=[
        "bottle>=0.13,<0.14",
        "waitress>=3.0,<4",
        "multipart>=2.0,<3",
        "watchdog>=6,<8",
        "paramiko>=5.1,<6",
        "msgspec>=0.20,<1",
        "psutil>=6,<8",
        "click>=8.1,<9",
        "rich>=13.7,<16",
        "packaging>=24,<27",
        "prometheus-client>=0.21,<1",
    ],
    extras_require={
        "dev": [
            "pytest>=9,<10",
            "pytest-timeout>=2.3,<3",
            "hypothesis>=6.100,<7",
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<3",
            "types-psutil",
            "types-paramiko",
            "playwright>=1.49,<2",
            "schemathesis>=4,<5",
            "axe-playwright-python>=0.1,<1",
        ],
    },
    entry_points={
        "console_scripts": [
            "modelrunner = modelrunner:main",
            "modelrunner-worker = worker_agent:main",
        ]
    },
)
