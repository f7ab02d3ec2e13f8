/** Ends a session of which only the record is left: its processes, its workspace, its folder, and last its record. */
import type { SessionRecord, Sessions, Workspaces } from './session.js'
import type { SessionRecords } from './session-records.js'

export interface RestPorts {
  readonly sessions: Sessions
  readonly workspaces: Workspaces
  readonly records: Pick<SessionRecords, 'close'>
}

export interface RestRules {
  /** Between TERM and KILL, milliseconds. */
  readonly graceMs: number
  /** Its folder stays for a person to look at. */
  readonly keep: boolean
}

/**
 * May be called again, by anybody, for a session that was made only half. The record goes last: what fails here is
 * found again.
 */
export async function layToRest(record: SessionRecord, ports: RestPorts, { graceMs, keep }: RestRules): Promise<void> {
  const { sessions, workspaces, records } = ports
  const process = record.process ?? (await sessions.find(record.folder))
  if (process) await sessions.end(process, graceMs)
  await workspaces.end(record.workspace, { keep })
  if (!keep) await sessions.remove(record.folder)
  await records.close(record)
}
