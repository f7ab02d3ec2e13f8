/** Ends the processes that a thread of this process started. Linux tells which they are; elsewhere there are none to be seen. */
import { readdirSync, readFileSync } from 'node:fs'

/**
 * With all that they started in turn: a shell's command holds the pipe on which the thread waits, and outlives the shell.
 * Each is stopped before its own children are read, so that none can be added behind our back.
 * @param tid the kernel's id of the thread
 * @returns how many were ended
 */
export function endChildrenOf(tid: number): number {
  // What the main thread started is the supervisor's own.
  if (tid === process.pid) return 0
  const found = new Set<number>()
  stopTree(`/proc/self/task/${tid}/children`, found)
  for (const pid of found) signal(pid, 'SIGKILL')
  return found.size
}

function stopTree(list: string, found: Set<number>): void {
  for (const pid of pidsIn(list)) {
    if (found.has(pid)) continue
    found.add(pid)
    signal(pid, 'SIGSTOP')
    for (const tid of threadsOf(pid)) stopTree(`/proc/${pid}/task/${tid}/children`, found)
  }
}

function pidsIn(list: string): number[] {
  try {
    return readFileSync(list, 'utf8')
      .split(' ')
      .map(Number)
      .filter((pid) => pid > 1)
  } catch {
    // The thread or process is gone, or this is not Linux.
    return []
  }
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`)
  } catch {
    return []
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // Gone meanwhile, or another user's: then the thread goes on waiting, which shows.
  }
}
