/** `unstuck doctor`: looks for what will go wrong before it does, and says the fix of each. It changes nothing. */
import type { Command } from 'commander'
import { type CliContext, contextOf } from './context.js'
import type { Finding } from './doctor-finding.js'
import { bullmqFindings, programFindings, thresholdFindings } from './doctor-local.js'
import { redisFindings } from './doctor-redis.js'
import { EXIT } from './exit.js'
import { printable, type Terminal, table } from './terminal.js'

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description('checks Redis, BullMQ, clocks, thresholds, programs and stray keys, and says the fix of each problem')
    .action(async (_: object, command: Command) => diagnose(contextOf(command)))
}

async function diagnose(context: CliContext): Promise<void> {
  const config = await context.config({ handlersMustExist: false })
  const [{ reachable, findings: ofRedis }, ofPrograms] = await Promise.all([redisFindings(config), programFindings(config)])
  const findings = [...ofRedis, ...bullmqFindings(process.cwd()), ...thresholdFindings(config), ...ofPrograms]
  const wrong = findings.some(({ status }) => status === 'problem')
  if (context.json) context.printJson({ ok: !wrong, findings })
  else for (const line of doctorLines(findings, context.terminal)) context.terminal.line(line)
  if (!reachable) context.finish(EXIT.unable)
  else context.finish(wrong ? EXIT.problem : EXIT.fine)
}

const COLOURS = { ok: 'green', advice: 'yellow', unknown: 'dim', problem: 'red' } as const

/** One line each; a fix stands behind an arrow. */
export function doctorLines(findings: readonly Finding[], terminal: Pick<Terminal, 'paint'>): string[] {
  return table(
    findings.map(({ status, check, found, fix }) => [
      terminal.paint(COLOURS[status], status === 'problem' ? 'PROBLEM' : status),
      check,
      printable(fix === undefined ? found : `${found} → ${fix}`),
    ]),
  )
}
