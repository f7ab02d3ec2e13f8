/** The one table: rows of what was measured, beside what it was to reach. */
const HEADINGS = ['measured', 'value', 'target', '']

/** @param {{what: string, value: string, target?: string, met?: boolean}[]} rows */
const cellsOf = (rows) =>
  rows.map(({ what, value, target = '', met }) => [what, value, target, met === undefined ? '' : met ? 'met' : 'MISSED'])

export function textTable(rows) {
  const lines = [HEADINGS, ...cellsOf(rows)]
  const widths = HEADINGS.map((_, column) => Math.max(...lines.map((cells) => cells[column].length)))
  const line = (cells) =>
    cells.map((cell, column) => (column === 1 ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join('  ')
  return [line(HEADINGS), widths.map((width) => '─'.repeat(width)).join('  '), ...lines.slice(1).map(line)]
    .map((text) => text.trimEnd())
    .join('\n')
}

export function markdownTable(rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`
  return [line(HEADINGS), '| --- | ---: | --- | --- |', ...cellsOf(rows).map(line)].join('\n')
}
