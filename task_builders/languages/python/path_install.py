"""The source of a small program that makes a checkout importable if no build back end can. It runs in a box, on its old Python.

It writes a path file and the metadata that entry points and version look-ups need. It is data here, and is never imported.
"""

PATH = "/opt/envfarm/path_install.py"
PROGRAM = """\
import json, os, re, sys, sysconfig

project = json.loads(sys.argv[1])
site = sysconfig.get_paths()["purelib"]
name = re.sub(r"[-_.]+", "_", project["name"])
with open(os.path.join(site, "__editable__." + name + ".pth"), "w") as file:
    file.write("".join(os.path.abspath(p) + "\\n" for p in project["paths"]))
info = os.path.join(site, "%s-%s.dist-info" % (name, project["version"]))
if not os.path.isdir(info):
    os.makedirs(info)
with open(os.path.join(info, "METADATA"), "w") as file:
    file.write("Metadata-Version: 2.1\\nName: %s\\nVersion: %s\\n" % (project["name"], project["version"]))
with open(os.path.join(info, "INSTALLER"), "w") as file:
    file.write("envfarm\\n")
with open(os.path.join(info, "RECORD"), "w") as file:
    file.write("")
with open(os.path.join(info, "entry_points.txt"), "w") as file:
    for group, entries in sorted(project["entry_points"].items()):
        file.write("[%s]\\n" % group + "".join("%s = %s\\n" % e for e in sorted(entries.items())) + "\\n")
for script, target in project["entry_points"].get("console_scripts", {}).items():
    module, _, function = target.split("[")[0].strip().partition(":")
    path = os.path.join(os.path.dirname(sys.executable), os.path.basename(script))
    with open(path, "w") as file:
        file.write("#!%s\\nimport sys\\nfrom %s import %s\\nsys.exit(%s())\\n" % (sys.executable, module, function.split(".")[0], function))
    os.chmod(path, 0o755)
"""
