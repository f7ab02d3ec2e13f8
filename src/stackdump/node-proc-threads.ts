/** Reads what Linux tells of a thread of this process. Without /proc, or when the thread is gone, there is nothing to tell. */
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { arch } from 'node:process'
import { type ChildProcessInfo, type KernelReading, type KernelView, kernelView, pidsOf, syscallOf } from './kernel-view.js'

const TASKS = '/proc/self/task'
/** A job that starts processes without end must not keep us reading. */
const MAX_DEPTH = 4
const MAX_CHILDREN = 32

/** Whether this system shows threads at all. */
export function canReadThreads(): boolean {
  return existsSync(TASKS)
}

/** The kernel's id of the calling thread; undefined where there is no /proc. A thread can only read its own. */
export function ownTid(): number | undefined {
  try {
    const tid = Number(readlinkSync('/proc/thread-self').split('/').at(-1))
    return Number.isInteger(tid) ? tid : undefined
  } catch {
    return undefined
  }
}

/** One look at a thread of this process, about 0.1 ms. @returns undefined when it is gone or cannot be seen */
export function readThread(tid: number): KernelReading | undefined {
  const stat = textOf(`${TASKS}/${tid}/stat`)
  if (stat === undefined) return undefined
  const wchan = textOf(`${TASKS}/${tid}/wchan`)
  const syscall = textOf(`${TASKS}/${tid}/syscall`)
  const schedstat = textOf(`${TASKS}/${tid}/schedstat`)
  const { fd } = syscallOf(syscall, arch)
  const fdTarget = fd === undefined ? undefined : linkOf(`/proc/self/fd/${fd}`)
  return {
    tid,
    atMs: performance.now(),
    stat,
    ...(wchan === undefined ? {} : { wchan }),
    ...(syscall === undefined ? {} : { syscall }),
    ...(schedstat === undefined ? {} : { schedstat }),
    ...(fdTarget === undefined ? {} : { fdTarget }),
    children: childrenOf(`${TASKS}/${tid}/children`, MAX_DEPTH),
  }
}

/** The kernel's view now. @param before an earlier reading of the same thread */
export function viewThread(tid: number, before?: KernelReading): KernelView | undefined {
  const now = readThread(tid)
  return now && kernelView(now, before, arch)
}

/** A reading in words. */
export function viewReading(reading: KernelReading): KernelView {
  return kernelView(reading, undefined, arch)
}

/** Pids of the processes that this thread started, and of theirs. For ending what a thread waits for. */
export function subtreeOf(tid: number): number[] {
  return pidsOf(childrenOf(`${TASKS}/${tid}/children`, MAX_DEPTH))
}

function childrenOf(path: string, depth: number): ChildProcessInfo[] {
  if (depth === 0) return []
  const pids = (textOf(path) ?? '').split(' ').map(Number)
  return pids
    .filter((pid) => pid > 0)
    .slice(0, MAX_CHILDREN)
    .map((pid) => ({
      pid,
      name: textOf(`/proc/${pid}/comm`) ?? '?',
      children: childrenOf(`/proc/${pid}/task/${pid}/children`, depth - 1),
    }))
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim()
  } catch {
    return undefined
  }
}

function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path)
  } catch {
    return undefined
  }
}
