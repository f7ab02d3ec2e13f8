/** What the kernel's files say of a thread, in words: works without the thread's help and without privilege. Pure. */

/** The text of the files under /proc/self/task/TID, and what their numbers point to. */
export interface KernelReading {
  readonly tid: number
  /** Monotonic milliseconds. */
  readonly atMs: number
  readonly stat: string
  readonly wchan?: string
  readonly syscall?: string
  readonly schedstat?: string
  /** What the descriptor of the system call points to: a path, or `pipe:[…]`, `socket:[…]`. */
  readonly fdTarget?: string
  readonly children: readonly ChildProcessInfo[]
}

/** A process that the thread started. Its name only: a command line may hold job data. */
export interface ChildProcessInfo {
  readonly pid: number
  readonly name: string
  readonly children: readonly ChildProcessInfo[]
}

export type KernelState = 'on-cpu' | 'event-loop' | 'child' | 'file' | 'futex' | 'sleep' | 'blocked' | 'gone'

export interface KernelView {
  readonly tid: number
  readonly state: KernelState
  /** One line for people. */
  readonly summary: string
  readonly syscall?: string
  readonly wchan?: string
  readonly fd?: number
  readonly file?: string
  readonly children?: readonly ChildProcessInfo[]
  /** Share of one processor between two readings, 0 to 1. */
  readonly cpuShare?: number
}

const WAITS_FOR_EVENTS = new Set(['epoll_wait', 'epoll_pwait', 'epoll_pwait2', 'poll', 'ppoll', 'io_uring_enter'])

/** Only those in which a thread stays for long, by the numbers of x64 and arm64. */
const SYSCALLS: Readonly<Record<string, Readonly<Record<number, string>>>> = {
  x64: {
    ...{ 0: 'read', 1: 'write', 7: 'poll', 17: 'pread64', 18: 'pwrite64', 19: 'readv', 20: 'writev', 23: 'select' },
    ...{ 35: 'nanosleep', 42: 'connect', 43: 'accept', 44: 'sendto', 45: 'recvfrom', 46: 'sendmsg', 47: 'recvmsg' },
    ...{ 61: 'wait4', 73: 'flock', 74: 'fsync', 75: 'fdatasync', 202: 'futex', 217: 'getdents64', 230: 'clock_nanosleep' },
    ...{ 232: 'epoll_wait', 247: 'waitid', 257: 'openat', 262: 'newfstatat', 270: 'pselect6', 271: 'ppoll' },
    ...{ 281: 'epoll_pwait', 332: 'statx', 426: 'io_uring_enter', 441: 'epoll_pwait2' },
  },
  arm64: {
    ...{ 22: 'epoll_pwait', 32: 'flock', 56: 'openat', 61: 'getdents64', 63: 'read', 64: 'write', 65: 'readv', 66: 'writev' },
    ...{ 67: 'pread64', 68: 'pwrite64', 72: 'pselect6', 73: 'ppoll', 79: 'newfstatat', 82: 'fsync', 83: 'fdatasync' },
    ...{ 95: 'waitid', 98: 'futex', 101: 'nanosleep', 115: 'clock_nanosleep', 202: 'accept', 203: 'connect', 206: 'sendto' },
    ...{ 207: 'recvfrom', 211: 'sendmsg', 212: 'recvmsg', 260: 'wait4', 291: 'statx', 426: 'io_uring_enter' },
    ...{ 441: 'epoll_pwait2' },
  },
}

const ON_FD =
  /^(read|write|pread64|pwrite64|readv|writev|connect|accept|sendto|recvfrom|sendmsg|recvmsg|flock|fsync|fdatasync|getdents64)$/

/** The system call that the thread is in, and the descriptor that it is about. @param text of the `syscall` file */
export function syscallOf(text: string | undefined, arch: string): { name?: string; fd?: number } {
  const [number, first] = (text ?? '').trim().split(' ')
  if (!number || !/^\d+$/.test(number)) return {}
  const name = SYSCALLS[arch]?.[Number(number)] ?? `syscall ${number}`
  return ON_FD.test(name) && first !== undefined ? { name, fd: Number(first) } : { name }
}

/** State letter and processor time so far, of the `stat` file; the name in it may hold spaces and parentheses. */
export function statOf(text: string): { state: string; ticks: number } {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return { state: fields[0] ?? '?', ticks: Number(fields[11] ?? 0) + Number(fields[12] ?? 0) }
}

/** Milliseconds in one tick of `stat`: USER_HZ is 100 on every Linux that Node runs on. */
const TICK_MS = 10
/** The kernel books a running thread's time at its own ticks: over less than this a share means nothing. */
const MIN_SHARE_MS = 10

/** Processor time so far, milliseconds: exact from `schedstat`, else in ticks. */
function cpuMs({ stat, schedstat }: KernelReading): number {
  const nanos = Number(schedstat?.split(' ')[0])
  return Number.isFinite(nanos) ? nanos / 1e6 : statOf(stat).ticks * TICK_MS
}

/** @param before an earlier reading, for the share of a processor that it used in between */
export function kernelView(now: KernelReading, before: KernelReading | undefined, arch: string): KernelView {
  const { state: letter } = statOf(now.stat)
  const { name: syscall, fd } = syscallOf(now.syscall, arch)
  const cpuShare = before && now.atMs - before.atMs >= MIN_SHARE_MS ? shareOf(now, before) : undefined
  const wchan = now.wchan && now.wchan !== '0' ? now.wchan : undefined
  const facts: Facts = {
    letter,
    children: now.children,
    ...(syscall === undefined ? {} : { syscall }),
    ...(wchan === undefined ? {} : { wchan }),
    ...(fd === undefined ? {} : { fd }),
    ...(now.fdTarget === undefined ? {} : { file: now.fdTarget }),
    ...(cpuShare === undefined ? {} : { cpuShare }),
  }
  const state = stateOf(facts)
  const { letter: _, children, ...rest } = facts
  return { tid: now.tid, state, summary: summaryOf(state, facts), ...rest, ...(children.length > 0 ? { children } : {}) }
}

interface Facts extends Pick<KernelView, 'syscall' | 'wchan' | 'fd' | 'file' | 'cpuShare'> {
  readonly letter: string
  readonly children: readonly ChildProcessInfo[]
}

function shareOf(now: KernelReading, before: KernelReading): number {
  const share = (cpuMs(now) - cpuMs(before)) / (now.atMs - before.atMs)
  return Math.round(Math.min(1, Math.max(0, share)) * 100) / 100
}

function stateOf({ letter, syscall, wchan, fd, children }: Facts): KernelState {
  if (letter === 'Z' || letter === 'X') return 'gone'
  if (letter === 'R') return 'on-cpu'
  const waitsForEvents = syscall ? WAITS_FOR_EVENTS.has(syscall) : /poll/.test(wchan ?? '')
  if (/^wait/.test(syscall ?? '') || (waitsForEvents && children.length > 0)) return 'child'
  if (waitsForEvents) return 'event-loop'
  if (syscall === 'futex' || (!syscall && /futex/.test(wchan ?? ''))) return 'futex'
  if (/nanosleep/.test(syscall ?? '')) return 'sleep'
  return fd === undefined ? 'blocked' : 'file'
}

function summaryOf(state: KernelState, facts: Facts): string {
  const { syscall, wchan, fd, file, cpuShare, children } = facts
  const share = cpuShare === undefined ? '' : `, ${Math.round(cpuShare * 100)} % of one processor`
  switch (state) {
    case 'gone':
      return 'the thread has ended'
    case 'on-cpu':
      return `on a processor or ready for one${share}`
    case 'child':
      return `waits for child process ${children.map(childText).join(', ') || '(unknown)'}`
    case 'event-loop':
      return 'waits for events (idle event loop)'
    case 'futex':
      return 'waits for a futex (a lock, or Atomics.wait)'
    case 'sleep':
      return 'sleeps'
    case 'file':
      return `blocked in ${syscall} on descriptor ${fd}${file === undefined ? '' : ` ${file}`}`
    case 'blocked':
      return `blocked in ${syscall ?? wchan ?? 'the kernel'}${syscall && wchan ? ` (${wchan})` : ''}`
  }
}

function childText({ pid, name, children }: ChildProcessInfo): string {
  return `${pid} ${name}${children.length > 0 ? ` → ${children.map(childText).join(', ')}` : ''}`
}

/** All pids of the processes that a thread started, and of theirs: parents before children. */
export function pidsOf(children: readonly ChildProcessInfo[]): number[] {
  return children.flatMap(({ pid, children: below }) => [pid, ...pidsOf(below)])
}
