/** The systemd units: right by systemd's own judgement, and of one piece with the config and the command line. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from 'vitest'
import { buildProgram } from '../../src/cli/program.js'
import { configFromEnvironment } from '../../src/platform/config-load.js'
import { configKeys } from '../../src/platform/config-schema.js'

const dir = resolve(import.meta.dirname, '../../deploy/systemd')
const SUPERVISOR = 'unstuck-supervisor@.service'
const WATCHDOG = 'unstuck-watchdog.service'
const UNITS = [SUPERVISOR, WATCHDOG]

/** `Section.Key` → values in order. Every line that is no comment, section or assignment is a mistake. */
function parseUnit(text: string): ReadonlyMap<string, readonly string[]> {
  const values = new Map<string, string[]>()
  let section = ''
  for (const line of text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))) {
    const [, name] = /^\[(\w+)\]$/.exec(line) ?? []
    const [, key, value = ''] = /^(\w+)=(.*)$/.exec(line) ?? []
    if (name !== undefined) section = name
    else if (key === undefined) throw new Error(`not a line of a unit: ${line}`)
    else values.set(`${section}.${key}`, [...(values.get(`${section}.${key}`) ?? []), value])
  }
  return values
}

const unit = (name: string) => parseUnit(readFileSync(join(dir, name), 'utf8'))
const service = (name: string, key: string) => unit(name).get(`Service.${key}`) ?? []

function analyze(...args: string[]) {
  const { status, stdout, stderr, error } = spawnSync('systemd-analyze', args, { cwd: dir, encoding: 'utf8' })
  return { status, said: `${stdout}${stderr}${error?.message ?? ''}` }
}

describe('the systemd units', () => {
  it('are one for each process, and without fault in the eyes of systemd', () => {
    expect(readdirSync(dir).filter((name) => name.endsWith('.service'))).toEqual(UNITS)
    for (const name of UNITS) expect(analyze('verify', '--man=no', `./${name}`), name).toEqual({ status: 0, said: '' })
  })

  it('would not be with a setting that does not exist', () => {
    const { said } = analyze('verify', '--man=no', '../../test/fixtures/misspelt.service')
    expect(said).toMatch(/Unknown key( name)? 'WatchdogSeconds'/)
  })

  it('are closed up so far that systemd calls their exposure OK', () => {
    for (const name of UNITS) {
      const { status, said } = analyze('security', '--offline=true', '--threshold=25', `./${name}`)
      expect(said, name).toMatch(/Overall exposure level/)
      expect(status, said).toBe(0)
    }
  })

  it('are restarted whenever they end, and when they give no sign of life', () => {
    for (const name of UNITS) {
      expect([service(name, 'Type'), service(name, 'NotifyAccess'), service(name, 'Restart')]).toEqual([
        ['notify'],
        ['all'],
        ['always'],
      ])
      expect(Number(service(name, 'WatchdogSec')[0])).toBeGreaterThanOrEqual(10)
      expect(unit(name).get('Unit.StartLimitIntervalSec')).toEqual(['0'])
    }
  })

  it('give a supervisor longer than its drain, which its sessions live to see', () => {
    const { supervisor } = configFromEnvironment({})
    expect(Number(service(SUPERVISOR, 'TimeoutStopSec')[0]) * 1000).toBeGreaterThanOrEqual(supervisor.drainMs + 10_000)
    expect(service(SUPERVISOR, 'KillMode')).toEqual(['mixed'])
  })

  it('start commands with options that there are, with settings that there are, and with secrets in files', () => {
    const known = new Set(configKeys().flatMap(({ env }) => env.flatMap((name) => [name, `${name}_FILE`])))
    for (const name of UNITS) {
      const [program, unstuck, command, ...args] = service(name, 'ExecStart')[0]?.split(' ') ?? []
      expect([program, unstuck]).toEqual(['/usr/bin/env', 'unstuck'])
      const options = buildProgram()
        .commands.find((one) => one.name() === command)
        ?.options.map(({ long }) => long)
      const used = args.filter((arg) => arg.startsWith('--'))
      expect(used.filter((option) => option !== '--config' && !options?.includes(option))).toEqual([])

      const settings = service(name, 'Environment').flatMap((line) => line.split(' '))
      const own = settings.map((setting) => setting.split('=')[0] ?? '').filter((variable) => variable !== 'NODE_ENV')
      expect(own.filter((variable) => !known.has(variable))).toEqual([])
      expect(settings).toContain('UNSTUCK_REDIS_URL_FILE=%d/redis-url')
      expect(service(name, 'LoadCredential')).toEqual(['redis-url:/etc/unstuck/secrets/redis-url'])
    }
  })
})
