import { describe, expect, it } from 'vitest'
import { type KernelReading, kernelView, pidsOf, statOf } from '../../../src/stackdump/kernel-view.js'

const STAT = (state: string, ticks = 0) => `42 (no) de) ${state} 1 42 42 0 -1 4194304 1 0 0 0 ${ticks} 0 0 0 20 0 11 0 1 1 1`

function reading(fields: Partial<KernelReading> & { state?: string } = {}): KernelReading {
  const { state = 'S', ...rest } = fields
  return { tid: 42, atMs: 0, stat: STAT(state), children: [], ...rest }
}

describe('what the kernel says of a thread', () => {
  it('reads the state behind a name with parentheses', () => {
    expect(statOf(STAT('R', 7))).toEqual({ state: 'R', ticks: 7 })
  })

  it('of one that computes: its share of a processor, in nanoseconds where they are told', () => {
    const before = reading({ state: 'R', atMs: 100, schedstat: '1000000000 5 5' })
    const now = reading({ state: 'R', atMs: 500, schedstat: '1396000000 5 5', syscall: 'running' })
    expect(kernelView(now, before, 'x64')).toEqual({
      tid: 42,
      state: 'on-cpu',
      cpuShare: 0.99,
      summary: 'on a processor or ready for one, 99 % of one processor',
    })
  })

  it('of one that computes: in ticks otherwise', () => {
    const now = reading({ atMs: 400, stat: STAT('R', 30) })
    expect(kernelView(now, reading({ stat: STAT('R', 0) }), 'x64').cpuShare).toBe(0.75)
  })

  it('of one that waits for a child: which, by name and never by command line', () => {
    const children = [{ pid: 7, name: 'sh', children: [{ pid: 8, name: 'sleep', children: [] }] }]
    const view = kernelView(reading({ syscall: '281 0x5 0x7f', wchan: 'do_epoll_wait', children }), undefined, 'x64')
    expect(view).toMatchObject({ state: 'child', summary: 'waits for child process 7 sh → 8 sleep' })
    expect(pidsOf(children)).toEqual([7, 8])
  })

  it.each([
    ['x64', '0 0x17 0x7f'],
    ['arm64', '63 0x17 0x7f'],
  ])('of one that reads a file, on %s: which', (arch, syscall) => {
    const view = kernelView(reading({ syscall, wchan: 'anon_pipe_read', fdTarget: '/run/fifo' }), undefined, arch)
    expect(view).toMatchObject({
      state: 'file',
      fd: 23,
      file: '/run/fifo',
      summary: 'blocked in read on descriptor 23 /run/fifo',
    })
  })

  it.each([
    ['281 0x5', 'do_epoll_wait', 'event-loop'],
    ['202 0x5', 'futex_do_wait', 'futex'],
    ['230 0x5', 'hrtimer_nanosleep', 'sleep'],
    ['61 0x5', 'do_wait', 'child'],
    ['9999 0x5', 'rpc_wait', 'blocked'],
    [undefined, 'futex_do_wait', 'futex'],
    [undefined, 'ep_poll', 'event-loop'],
    [undefined, undefined, 'blocked'],
  ])('in %s, %s it is: %s', (syscall, wchan, state) => {
    const fields = { ...(syscall ? { syscall } : {}), ...(wchan ? { wchan } : {}) }
    expect(kernelView(reading(fields), undefined, 'x64').state).toBe(state)
  })

  it('names a call by number on a processor that it does not know', () => {
    expect(kernelView(reading({ syscall: '63 0x3', wchan: 'pipe_read' }), undefined, 'riscv64').summary).toBe(
      'blocked in syscall 63 (pipe_read)',
    )
  })

  it('of one that has ended: so', () => {
    expect(kernelView(reading({ state: 'Z' }), undefined, 'x64').state).toBe('gone')
  })
})
