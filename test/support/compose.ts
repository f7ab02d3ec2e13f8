/**
 * Compose v2 for tests: the one that is installed, else Debian's. Debian 12 has none yet and Debian 13 has: its program is one
 * static file, so it is taken out of the package, and nothing is installed. No daemon is needed to check a file.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { parse } from 'yaml'

export const ROOT = resolve(import.meta.dirname, '../..')

const CACHED = join(ROOT, 'node_modules/.cache/unstuck/docker-compose')
const SUITE = 'trixie'
const IN_PACKAGE = 'usr/libexec/docker/cli-plugins/docker-compose'

export interface Service {
  readonly image: string
  readonly build?: { readonly target: string }
  readonly profiles?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly ports?: readonly { readonly host_ip?: string; readonly target: number; readonly published: string }[]
  readonly volumes?: readonly {
    readonly type: string
    readonly source: string
    readonly target: string
    readonly read_only?: boolean
  }[]
  readonly networks?: Readonly<Record<string, unknown>>
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[]; readonly disable?: boolean }
  readonly stop_grace_period?: string
  readonly restart?: string
  readonly read_only?: boolean
  readonly init?: boolean
  readonly cap_drop?: readonly string[]
  readonly security_opt?: readonly string[]
  readonly logging?: { readonly options?: Readonly<Record<string, string>> }
  readonly deploy?: { readonly resources: { readonly limits: Readonly<Record<string, string | number>> } }
}

export interface Project {
  readonly services: Readonly<Record<string, Service>>
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>
}

export interface ComposeOptions {
  /** Default: the project's own. The folder that paths are relative to stays the project's. */
  readonly files?: readonly string[]
  readonly profiles?: readonly string[]
}

/** `docker compose config`. @returns its exit code and what it said */
export function composeConfig({ files = [], profiles = [] }: ComposeOptions = {}) {
  const [command = '', ...before] = compose()
  const args = [
    ...before,
    ...files.flatMap((file) => ['--file', file]),
    ...['--project-directory', ROOT],
    ...profiles.flatMap((profile) => ['--profile', profile]),
    'config',
  ]
  // What a person has in a .env file or the environment is not what is tested.
  const env = { PATH: process.env['PATH'], HOME: tmpdir(), COMPOSE_DISABLE_ENV_FILE: '1' }
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: ROOT, env, encoding: 'utf8' })
  return { code: status, stdout, stderr }
}

/** The project with everything filled in. @throws what compose says against it */
export function composedProject(options: ComposeOptions): Project {
  const { code, stdout, stderr } = composeConfig(options)
  if (code !== 0) throw new Error(`docker compose config: exit code ${code}\n${stderr}`)
  return parse(stdout) as Project
}

function compose(): string[] {
  const installed = [['docker', 'compose'], ['docker-compose'], [CACHED]].find(isVersion2)
  if (installed) return installed
  takeFromDebian()
  return [CACHED]
}

function isVersion2([command = '', ...args]: readonly string[]): boolean {
  const { status, stdout } = spawnSync(command, [...args, 'version', '--short'], { encoding: 'utf8' })
  return status === 0 && Number.parseInt(stdout.replace(/^v/, ''), 10) >= 2
}

function takeFromDebian(): void {
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
  } catch (error) {
    throw new Error('compose v2: neither here nor to be had from Debian; install the docker compose plugin', { cause: error })
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

/** Where this machine gets Debian from: named in no file of ours. */
function debianMirror(): string {
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
