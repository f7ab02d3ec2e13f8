/**
 * Compose v2, for the tests: the one that is installed, else Debian's. Debian 12 has none yet and Debian 13 has: its program
 * is one static file, so it is taken out of the package into node_modules/.cache, and nothing is installed.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { isOnPath, root } from './ensure.mjs'

const CACHED = join(root, 'node_modules/.cache/unstuck/docker-compose')
const SUITE = 'trixie'
const IN_PACKAGE = 'usr/libexec/docker/cli-plugins/docker-compose'

/** @returns the command and its first arguments, undefined when there is none */
export function findCompose() {
  return [['docker', 'compose'], ['docker-compose'], [CACHED]].find(isVersion2)
}

/** @returns whether it is there now; when not, a line on stderr has said what to install */
export function ensureCompose() {
  if (findCompose()) return true
  try {
    if (isOnPath('apt-get')) takeFromDebian()
  } catch (error) {
    process.stderr.write(`${error.message}\n`)
  }
  if (findCompose()) return true
  process.stderr.write('compose v2: not found; install the docker compose plugin\n')
  return false
}

function isVersion2([command, ...args]) {
  const { status, stdout } = spawnSync(command, [...args, 'version', '--short'], { encoding: 'utf8' })
  return status === 0 && Number.parseInt(stdout.replace(/^v/, ''), 10) >= 2
}

function takeFromDebian() {
  process.stderr.write('taking docker-compose out of its Debian package (apt-get)\n')
  const dir = mkdtempSync(join(tmpdir(), 'unstuck-compose-'))
  try {
    writeFileSync(join(dir, 'sources.list'), `deb ${debianMirror()} ${SUITE} main\n`)
    for (const folder of ['lists/partial', 'cache/archives/partial']) mkdirSync(join(dir, folder), { recursive: true })
    const own = [
      ...['-o', `Dir::Etc::sourcelist=${join(dir, 'sources.list')}`, '-o', 'Dir::Etc::sourceparts=-'],
      ...['-o', `Dir::State::lists=${join(dir, 'lists')}`, '-o', `Dir::Cache=${join(dir, 'cache')}`],
      ...['-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Languages=none'],
    ]
    execFileSync('apt-get', ['-q', ...own, 'update'], { cwd: dir, stdio: 'pipe' })
    execFileSync('apt-get', ['-q', ...own, 'download', 'docker-compose'], { cwd: dir, stdio: 'pipe' })
    execFileSync('sh', ['-c', 'dpkg-deb -x docker-compose_*.deb out'], { cwd: dir, stdio: 'pipe' })
    mkdirSync(resolve(CACHED, '..'), { recursive: true })
    const whole = `${CACHED}.${process.pid}`
    copyFileSync(join(dir, 'out', IN_PACKAGE), whole)
    chmodSync(whole, 0o755)
    renameSync(whole, CACHED)
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Where this machine gets Debian from: named in no file of ours. */
function debianMirror() {
  const ask = () =>
    existsSync('/etc/debian_version')
      ? execFileSync(
          'apt-get',
          ['indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages', 'Origin: Debian', 'Label: Debian'],
          {
            encoding: 'utf8',
          },
        )
      : ''
  let found = ask()
  if (found === '') {
    execFileSync('apt-get', ['-q', 'update'], { stdio: 'pipe' })
    found = ask()
  }
  return found.split('\n')[0] ?? ''
}
