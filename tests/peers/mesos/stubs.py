"""Compiles stand-ins for the versioned libraries that a shared object needs and never calls here.

Arguments: the shared object, and the folder for the stand-ins.
"""
import collections
import subprocess
import sys

OBJECT, FOLDER = sys.argv[1:]
libraries = {name: collections.defaultdict(list) for name in ("libcurl.so.4", "libssl.so.1.0.0", "libcrypto.so.1.0.0")}
for line in subprocess.check_output(["nm", "-D", "--undefined-only", OBJECT], text=True).splitlines():
    symbol, found, version = line.split()[-1].replace("@@", "@").partition("@")
    if not found:
        continue
    if version.startswith("CURL"):
        libraries["libcurl.so.4"][version].append(symbol)
    elif version.startswith("OPENSSL"):
        of_ssl = symbol.startswith(("SSL_", "SSLv", "TLSv"))
        libraries["libssl.so.1.0.0" if of_ssl else "libcrypto.so.1.0.0"][version].append(symbol)
for name, versions in libraries.items():
    if "curl" not in name:
        for version in ("OPENSSL_1.0.0", "OPENSSL_1.0.1", "OPENSSL_1.0.2"):
            versions[version]  # must be there, even without a symbol
    with open(f"{FOLDER}/stub.c", "w") as code:
        for symbol in (symbol for symbols in versions.values() for symbol in symbols):
            code.write(f"long {symbol}(void) {{ return 0; }}\n")
    with open(f"{FOLDER}/stub.map", "w") as exported:
        for version in sorted(versions):
            symbols = " ".join(f"{symbol};" for symbol in versions[version]) or f"none_{version.replace('.', '_')};"
            exported.write(f"{version} {{ global: {symbols} }};\n")
    link = [f"-Wl,--version-script={FOLDER}/stub.map", f"-Wl,-soname,{name}"]
    subprocess.check_call(["cc", "-shared", "-fPIC", "-w", "-o", f"{FOLDER}/{name}", f"{FOLDER}/stub.c", *link])
