/** `unstuck config`: what is in force, secrets hidden. */
import type { Command } from 'commander'
import { describeConfig } from '../platform/config-parse.js'
import { contextOf } from './context.js'
import { printable, table } from './terminal.js'

export function addConfigCommand(program: Command): void {
  program
    .command('config')
    .description('what is in force, secrets hidden')
    .action(async (_: object, command: Command) => {
      const context = contextOf(command)
      const shown = describeConfig(await context.config({ findEmbedded: false }))
      if (context.json) return context.printJson(shown)
      for (const line of table(leaves(shown))) context.terminal.line(line)
    })
}

function leaves(value: unknown, prefix = ''): string[][] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return [[prefix, value === undefined ? '-' : printable(typeof value === 'string' ? value : JSON.stringify(value))]]
  }
  return Object.entries(value).flatMap(([key, member]) => leaves(member, prefix === '' ? key : `${prefix}.${key}`))
}
