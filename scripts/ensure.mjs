/** What the other scripts share: being in the right folder, having what they need, and running programs. */
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)

/** One line on stderr, and exit code 2: something that a person must put right. */
export function refuse(message) {
  process.stderr.write(`${message}\n`)
  process.exit(2)
}

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < 20 || (major === 20 && minor < 19)) refuse(`node: ${process.version} is too old; install Node 20.19 or newer`)

export function isOnPath(program) {
  return (process.env.PATH ?? '').split(delimiter).some((folder) => folder !== '' && existsSync(join(folder, program)))
}

/** Installs the packages when they are missing or older than the lock file. */
export function ensurePackages() {
  install(root, 'packages')
}

/** The versions of Node that the package is tested on beside this one. */
export function ensureNodes() {
  install(join(root, 'test', 'nodes'), 'further versions of Node for the tests')
}

function install(folder, what) {
  const installed = join(folder, 'node_modules', '.package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(join(folder, 'package-lock.json')).mtimeMs) return
  process.stderr.write(`installing ${what} (npm ci)\n`)
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--prefix', folder], { stdio: ['ignore', 2, 2] })
  if (status !== 0) refuse(`npm ci: failed in ${folder}, see above; put it right and run this again`)
}

/** What is needed beside Node: the program, and Debian's packages that bring it. */
const programs = {
  redis: { found: () => hasRedis(), packages: ['redis-server'] },
  // The tests that set a process's clock compile a small library.
  compiler: { found: () => isOnPath('cc'), packages: ['gcc', 'libc6-dev'] },
  git: { found: () => isOnPath('git'), packages: ['git'] },
  tmux: { found: () => isOnPath('tmux'), packages: ['tmux'] },
  // The tests of deploy/: rules, alerts and units are tried with the programs that take them.
  prometheus: { found: () => isOnPath('prometheus') && isOnPath('promtool'), packages: ['prometheus'] },
  alertmanager: { found: () => isOnPath('prometheus-alertmanager'), packages: ['prometheus-alertmanager'] },
  systemd: { found: () => isOnPath('systemd-analyze'), packages: ['systemd'] },
  browser: { found: () => browserPath() !== undefined, packages: ['chromium'] },
}

/** The browser that the page is tested and photographed with; undefined when there is none. */
export function browserPath() {
  const places = [process.env.CHROMIUM_BIN, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']
  return places.find((place) => place && existsSync(place))
}

function hasRedis() {
  const given = process.env.REDIS_SERVER_BIN
  return Boolean(given && existsSync(given)) || isOnPath('redis-server') || isOnPath('valkey-server')
}

/**
 * Installs programs through apt where that is possible without asking anybody.
 * @param {...keyof typeof programs} names
 * @returns whether all are there now; when not, a line on stderr has said what to install
 */
export function ensurePrograms(...names) {
  const missing = () => names.filter((name) => !programs[name].found()).flatMap((name) => programs[name].packages)
  if (missing().length === 0) return true
  if (process.getuid?.() === 0 && isOnPath('apt-get')) {
    process.stderr.write(`installing ${missing().join(', ')} (apt-get)\n`)
    const apt = (...args) =>
      spawnSync('apt-get', args, { stdio: ['ignore', 'ignore', 2], env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
    apt('update')
    apt('install', '-y', '--no-install-recommends', ...missing())
    if (missing().length === 0) return true
  }
  process.stderr.write(`${missing().join(', ')}: not found; install with \`apt-get install ${missing().join(' ')}\`\n`)
  return false
}

/**
 * Runs a program in the foreground and passes signals on. On a terminal Ctrl-C reaches it by itself; a second one would
 * count as "force".
 * @returns its exit code, or 128 + the number of the signal that ended it
 */
export function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: 'inherit', ...options })
  const passOn = (signal) => {
    if (signal !== 'SIGINT' || !process.stdin.isTTY) child.kill(signal)
  }
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP']
  for (const signal of signals) process.on(signal, passOn)
  return new Promise((resolve) => {
    const settle = (code) => {
      for (const signal of signals) process.off(signal, passOn)
      resolve(code)
    }
    child.once('error', (error) => {
      process.stderr.write(`${command}: ${error.message}\n`)
      settle(2)
    })
    child.once('exit', (code, signal) =>
      settle(code ?? 128 + ({ SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 }[signal ?? ''] ?? 0)),
    )
  })
}

/** Runs a program of an installed package. */
export function runTool(script, args, options) {
  return run(process.execPath, [join(root, 'node_modules', script), ...args], options)
}
