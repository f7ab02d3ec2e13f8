/** Compose v2 for tests: the one that is installed, or that `npm test` brought (`scripts/compose.mjs`). No daemon is needed to check a file. */
import { spawnSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { resolve } from 'node:path'
import { parse } from 'yaml'
import { findCompose } from '../../scripts/compose.mjs'

export const ROOT = resolve(import.meta.dirname, '../..')

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

function compose(): readonly string[] {
  const found = findCompose()
  if (!found) throw new Error('compose v2: not found; `npm test` brings it, or install the docker compose plugin')
  return found
}
