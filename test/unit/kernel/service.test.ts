import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Service } from '../../../src/kernel/service.js'
import { deferred } from '../../support/deferred.js'

/** Counts what it is asked to do; start and stop end when the test says so. */
class Probe extends Service {
  readonly calls: string[] = []
  readonly starting = deferred()
  readonly stopping = deferred()

  protected override async onStart(): Promise<void> {
    this.calls.push('start')
    await this.starting.promise
    this.calls.push('started')
  }

  protected override async onStop(): Promise<void> {
    this.calls.push('stop')
    await this.stopping.promise
    this.calls.push('stopped')
  }
}

function setup(): Probe {
  return new Probe()
}

describe('service', () => {
  it('started twice at once and once more later starts once', async () => {
    const probe = setup()
    const both = Promise.all([probe.start(), probe.start()])
    expect(probe.state).toBe('starting')
    probe.starting.resolve()
    await both
    await probe.start()
    expect(probe.state).toBe('running')
    expect(probe.calls).toEqual(['start', 'started'])
  })

  it('A14 stopped twice stops once, and both callers wait for the end', async () => {
    const probe = setup()
    probe.starting.resolve()
    await probe.start()
    const both = Promise.all([probe.stop(), probe.stop()])
    expect(probe.state).toBe('stopping')
    probe.stopping.resolve()
    await both
    await probe.stop()
    expect(probe.state).toBe('stopped')
    expect(probe.calls).toEqual(['start', 'started', 'stop', 'stopped'])
  })

  it('A14 stopped while starting ends clean: the stop waits for the start', async () => {
    const probe = setup()
    const started = probe.start()
    const stopped = probe.stop()
    expect(probe.calls).toEqual(['start'])
    probe.starting.resolve()
    probe.stopping.resolve()
    await Promise.all([started, stopped])
    expect(probe.state).toBe('stopped')
    expect(probe.calls).toEqual(['start', 'started', 'stop', 'stopped'])
  })

  it('a failing start is undone, says why, and leaves the service stopped', async () => {
    const probe = setup()
    probe.stopping.resolve()
    probe.starting.reject(new Error('port in use'))
    await expect(probe.start()).rejects.toThrow('port in use')
    expect(probe.state).toBe('stopped')
    expect(probe.calls).toEqual(['start', 'stop', 'stopped'])
  })

  it('a start that fails while a stop waits for it is undone once', async () => {
    const probe = setup()
    probe.stopping.resolve()
    const started = probe.start()
    const stopped = probe.stop()
    probe.starting.reject(new Error('late failure'))
    await expect(started).rejects.toThrow('late failure')
    await stopped
    expect(probe.calls).toEqual(['start', 'stop', 'stopped'])
  })

  it('never started, it stops without a deed and cannot be started afterwards', async () => {
    const probe = setup()
    await probe.stop()
    await expect(probe.start()).rejects.toThrow('Probe: cannot be started again after a stop')
    expect(probe.calls).toEqual([])
  })

  it('a stop that throws tells its caller and still ends stopped', async () => {
    const probe = setup()
    probe.starting.resolve()
    await probe.start()
    probe.stopping.reject(new Error('did not close'))
    await expect(probe.stop()).rejects.toThrow('did not close')
    expect(probe.state).toBe('stopped')
  })

  it('A14 in any order of starts and stops each happens at most once, the stop last, and all callers get an answer', async () => {
    const steps = fc.array(fc.constantFrom('start', 'stop', 'begun', 'fails', 'ended', 'turn'), { maxLength: 12 })
    await fc.assert(
      fc.asyncProperty(steps, async (order) => {
        const probe = setup()
        const answers: Promise<unknown>[] = []
        for (const step of order) {
          if (step === 'start') answers.push(probe.start().catch(() => undefined))
          if (step === 'stop') answers.push(probe.stop())
          if (step === 'begun') probe.starting.resolve()
          if (step === 'fails') probe.starting.reject(new Error('no'))
          if (step === 'ended') probe.stopping.resolve()
          if (step === 'turn') await Promise.resolve()
        }
        probe.starting.resolve()
        probe.stopping.resolve()
        await probe.starting.promise.catch(() => undefined)
        await Promise.all([...answers, probe.stop()])
        expect(probe.state).toBe('stopped')
        const expected = probe.calls.includes('started')
          ? ['start', 'started', 'stop', 'stopped']
          : probe.calls.length > 0
            ? ['start', 'stop', 'stopped']
            : []
        expect(probe.calls).toEqual(expected)
      }),
      { numRuns: 300 },
    )
  })
})
