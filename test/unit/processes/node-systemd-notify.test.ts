import { delimiter } from 'node:path'
import { describe, expect, it } from 'vitest'
import { systemdOf } from '../../../src/processes/node-systemd-notify.js'
import { fakeSystemd } from '../../support/systemd.js'

function setup(env: NodeJS.ProcessEnv = {}) {
  const fake = fakeSystemd()
  const errors: string[] = []
  let now = 0
  const systemd = systemdOf({
    env: { ...fake.env, ...env },
    monotonicMs: () => now,
    onError: (message) => errors.push(message),
  })
  const aliveAt = (at: number) => {
    now = at
    systemd.alive()
  }
  return { fake, systemd, errors, aliveAt }
}

describe('systemd', () => {
  it('is told that the service is ready, lives and stops', async () => {
    const { fake, systemd } = setup({ WATCHDOG_USEC: '30000000' })
    expect(systemd.watchdogMs).toBe(30_000)
    systemd.ready()
    await fake.told('READY=1')
    systemd.alive()
    await fake.told('WATCHDOG=1')
    systemd.stopping()
    await fake.told('STOPPING=1')
  })

  it('hears of life twice in its patience, however often it is said', async () => {
    const { fake, aliveAt } = setup({ WATCHDOG_USEC: '20000000' })
    for (const at of [0, 1, 9999, 10_000, 19_999]) aliveAt(at)
    await fake.told('WATCHDOG=1', 2)
    aliveAt(20_000)
    await fake.told('WATCHDOG=1', 3)
    expect(fake.count('WATCHDOG=1')).toBe(3)
  })

  it('hears nothing without a socket to tell it through', () => {
    const { systemd, errors } = setup({ NOTIFY_SOCKET: '', WATCHDOG_USEC: '30000000', PATH: '/nowhere' })
    expect(systemd.watchdogMs).toBeUndefined()
    systemd.ready()
    systemd.alive()
    systemd.stopping()
    expect(errors).toEqual([])
  })

  it('hears no life of a process that it does not watch', () => {
    expect(setup({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: '1' }).systemd.watchdogMs).toBeUndefined()
    expect(setup({ WATCHDOG_USEC: '30000000', WATCHDOG_PID: String(process.pid) }).systemd.watchdogMs).toBe(30_000)
    for (const text of ['', '0', '-1', 'soon']) expect(setup({ WATCHDOG_USEC: text }).systemd.watchdogMs).toBeUndefined()
  })

  it('that cannot be told is said once, in one line with the reason', async () => {
    const { systemd, errors } = setup({ PATH: ['/nowhere', '/nowhere/else'].join(delimiter) })
    systemd.ready()
    systemd.ready()
    await expect.poll(() => errors, { timeout: 20_000 }).toHaveLength(1)
    systemd.stopping()
    await expect.poll(() => errors[0]).toMatch(/^systemd-notify: spawn systemd-notify ENOENT, so systemd does not hear/)
    expect(errors).toHaveLength(1)
  })

  it('that refuses is said with how the program ended', async () => {
    const { fake, systemd, errors } = setup()
    fake.refuse()
    systemd.ready()
    await expect.poll(() => errors, { timeout: 20_000 }).toEqual([expect.stringContaining('ended with 3')])
  })
})
