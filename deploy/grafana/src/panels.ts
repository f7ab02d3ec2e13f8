/**
 * The kinds of panels that the dashboards are made of, and their assembly. What a panel asks stands with its dashboard;
 * here is only how it looks. Every query goes to the data source that the variable names.
 */
import * as common from '@grafana/grafana-foundation-sdk/common'
import * as dashboard from '@grafana/grafana-foundation-sdk/dashboard'
import * as heatmap from '@grafana/grafana-foundation-sdk/heatmap'
import * as prometheus from '@grafana/grafana-foundation-sdk/prometheus'
import * as stat from '@grafana/grafana-foundation-sdk/stat'
import * as statetimeline from '@grafana/grafana-foundation-sdk/statetimeline'
import * as table from '@grafana/grafana-foundation-sdk/table'
import * as timeseries from '@grafana/grafana-foundation-sdk/timeseries'

export const SOURCE: common.DataSourceRef = { type: 'prometheus', uid: `$${'{datasource}'}` }

/** What every panel has. */
interface Face {
  readonly title: string
  /** What it shows, and what to think of it; the text behind the panel's "i". */
  readonly help: string
  /** Of Grafana's 24 columns. */
  readonly width: number
  /** Grafana's name of a unit, `s` for seconds. Default: a plain number */
  readonly unit?: string
  /** From which value on which colour. Default: one quiet colour */
  readonly levels?: Levels
}

/** Colour of 0 and up, then of what is at least so much. */
export type Levels = readonly [base: string, ...(readonly [from: number, color: string])[]]

export interface Ask {
  readonly expr: string
  /** What the legend, or the column of a table, calls it; `{{queue}}` is filled from the labels. */
  readonly name: string
}

type AnyPanel = { build(): dashboard.Panel }

/** Everything is well at 0, and from 1 on somebody should look. */
export const BAD: Levels = ['green', [1, 'red']]
export const WORTH_A_LOOK: Levels = ['green', [1, 'orange']]
/** Something must be there. */
export const NEEDED: Levels = ['red', [1, 'green']]
const QUIET: Levels = ['text']

/** Between two bars of events at least: with shorter steps each would show in several, since $__rate_interval is four scrapes long. */
const EVENT_STEP = '1m'

function queryOf({ expr, name }: Ask, index: number): prometheus.DataqueryBuilder {
  return new prometheus.DataqueryBuilder()
    .datasource(SOURCE)
    .refId(String.fromCharCode(65 + index))
    .editorMode(prometheus.QueryEditorMode.Code)
    .expr(expr)
    .legendFormat(name)
    .range()
}

function thresholds([base, ...steps]: Levels): dashboard.ThresholdsConfigBuilder {
  return new dashboard.ThresholdsConfigBuilder()
    .mode(dashboard.ThresholdsMode.Absolute)
    .steps([{ value: null, color: base }, ...steps.map(([value, color]) => ({ value, color }))])
}

/** The one number that matters, with its history behind it. @param words what to say in place of a number */
export function number(face: Face & { readonly expr: string; readonly words?: Readonly<Record<string, string>> }): AnyPanel {
  const { title, help, width, expr, unit = 'short', levels = QUIET, words } = face
  const panel = new stat.PanelBuilder()
    .title(title)
    .description(help)
    .datasource(SOURCE)
    .span(width)
    .height(4)
    .unit(unit)
    .thresholds(thresholds(levels))
    .colorMode(common.BigValueColorMode.Value)
    .graphMode(common.BigValueGraphMode.Area)
    .reduceOptions(new common.ReduceDataOptionsBuilder().calcs(['lastNotNull']))
    .noValue('nothing')
    .withTarget(queryOf({ expr, name: title }, 0))
  if (words) panel.mappings([mapping(words)])
  return panel
}

function mapping(words: Readonly<Record<string, string>>): dashboard.ValueMap {
  const options = Object.fromEntries(Object.entries(words).map(([value, text], index) => [value, { text, index }]))
  return { type: dashboard.MappingType.ValueToText, options }
}

/** Series over time. */
export function lines(face: Face & { readonly asks: readonly Ask[]; readonly stacked?: true; readonly bars?: true }): AnyPanel {
  const { title, help, width, unit = 'short', levels, asks, stacked, bars } = face
  const panel = new timeseries.PanelBuilder()
    .title(title)
    .description(help)
    .datasource(SOURCE)
    .span(width)
    .height(8)
    .unit(unit)
    .min(0)
    .fillOpacity(stacked || bars ? 60 : 10)
    .drawStyle(bars ? common.GraphDrawStyle.Bars : common.GraphDrawStyle.Line)
    .showPoints(common.VisibilityMode.Never)
    .stacking(new common.StackingConfigBuilder().mode(stacked || bars ? common.StackingMode.Normal : common.StackingMode.None))
    .legend(
      new common.VizLegendOptionsBuilder()
        .showLegend(true)
        .displayMode(common.LegendDisplayMode.List)
        .placement(common.LegendPlacement.Bottom),
    )
    .tooltip(new common.VizTooltipOptionsBuilder().mode(common.TooltipDisplayMode.Multi).sort(common.SortOrder.Descending))
    .targets(asks.map(queryOf))
  if (bars) panel.interval(EVENT_STEP)
  if (levels) {
    panel
      .thresholds(thresholds(levels))
      .thresholdsStyle(new common.GraphThresholdsStyleConfigBuilder().mode(common.GraphThresholdsStyleMode.Dashed))
  }
  return panel
}

/** A bar for each series, coloured by what it was when. */
export function timeline(
  face: Face & { readonly ask: Ask; readonly height?: number; readonly words?: Readonly<Record<string, string>> },
): AnyPanel {
  const { title, help, width, height = 10, levels = BAD, ask, words = { '0': 'fine' } } = face
  return new statetimeline.PanelBuilder()
    .title(title)
    .description(help)
    .datasource(SOURCE)
    .span(width)
    .height(height)
    .colorScheme(new dashboard.FieldColorBuilder().mode(dashboard.FieldColorModeId.Thresholds))
    .thresholds(thresholds(levels))
    .mappings([mapping(words)])
    .showValue(common.VisibilityMode.Never)
    .mergeValues(true)
    .rowHeight(0.8)
    .fillOpacity(80)
    .withTarget(queryOf(ask, 0))
}

/** Where the observations of a histogram lie over time. */
export function cloud(face: Face & { readonly ask: Ask }): AnyPanel {
  const { title, help, width, unit = 's', ask } = face
  return new heatmap.PanelBuilder()
    .title(title)
    .description(help)
    .datasource(SOURCE)
    .span(width)
    .height(8)
    .interval(EVENT_STEP)
    .calculate(false)
    .yAxis(new heatmap.YAxisConfigBuilder().unit(unit))
    .withTarget(queryOf(ask, 0).format(prometheus.PromQueryFormat.Heatmap))
}

/** Columns of a table: a query each, beside the labels that they share. */
export interface Column extends Ask {
  readonly unit?: string
  readonly levels?: Levels
}

/**
 * The present as rows, one for each set of labels.
 * @param labels the columns before the queries' own, in order; other labels are not shown
 */
export function rows(
  face: Omit<Face, 'unit' | 'levels'> & {
    readonly labels: readonly string[]
    readonly columns: readonly Column[]
    /** The column that the worst comes first by. */
    readonly worst: string
    readonly height?: number
  },
): AnyPanel {
  const { title, help, width, height = 8, labels, columns, worst } = face
  const values = columns.map(({ name }, index) => [columns.length === 1 ? 'Value' : `Value #${letter(index)}`, name] as const)
  const order = [...labels, ...values.map(([value]) => value)]
  const panel = new table.PanelBuilder()
    .title(title)
    .description(help)
    .datasource(SOURCE)
    .span(width)
    .height(height)
    .sortBy([new common.TableSortByFieldStateBuilder().displayName(worst).desc(true)])
    .targets(columns.map((column, index) => queryOf(column, index).instant().format(prometheus.PromQueryFormat.Table)))
    .withTransformation({ id: 'merge', options: {} })
    .withTransformation({
      id: 'organize',
      options: {
        excludeByName: { Time: true },
        indexByName: Object.fromEntries(order.map((name, index) => [name, index])),
        renameByName: Object.fromEntries(values),
      },
    })
  for (const { name, unit = 'short', levels } of columns) {
    const colour = levels
      ? [
          { id: 'thresholds', value: thresholds(levels).build() },
          { id: 'custom.cellOptions', value: { type: 'color-text' } },
        ]
      : []
    panel.overrideByName(name, [{ id: 'unit', value: unit }, ...colour])
  }
  return panel
}

const letter = (index: number) => String.fromCharCode(65 + index)

/** The alerts of the data source as Grafana knows them. Asks nothing itself. */
export function alertList({ title, help, width }: Face): AnyPanel {
  return new dashboard.PanelBuilder()
    .type('alertlist')
    .title(title)
    .description(help)
    .span(width)
    .height(10)
    .options({
      viewMode: 'list',
      groupMode: 'default',
      groupBy: [],
      maxItems: 50,
      sortOrder: 1,
      dashboardAlerts: false,
      showInactiveAlerts: false,
      alertName: '',
      alertInstanceLabelFilter: '',
      datasource: SOURCE.uid ?? '',
      stateFilter: { firing: true, pending: true, noData: true, error: true, normal: false },
    })
}

export interface BoardSpec {
  readonly uid: string
  readonly title: string
  readonly help: string
  readonly variables?: readonly { build(): dashboard.VariableModel }[]
  readonly sections: readonly { readonly title: string; readonly panels: readonly AnyPanel[] }[]
}

/** A dashboard of these sections: with the data source to choose, links to the others, and a mark where something got stuck. */
export function board({ uid, title, help, variables = [], sections }: BoardSpec): dashboard.Dashboard {
  const builder = new dashboard.DashboardBuilder(title)
    .uid(uid)
    .description(help)
    .tags(['unstuck'])
    .time({ from: 'now-1h', to: 'now' })
    .refresh('10s')
    .tooltip(dashboard.DashboardCursorSync.Crosshair)
    .withVariable(new dashboard.DatasourceVariableBuilder('datasource').label('Data source').type('prometheus'))
    .annotation(stuckMarks())
    .link(otherBoards())
  for (const variable of variables) builder.withVariable(variable)
  for (const section of sections) {
    builder.withRow(new dashboard.RowBuilder(section.title))
    for (const panel of section.panels) builder.withPanel(panel)
  }
  const built = builder.build()
  built.panels?.forEach((panel, index) => {
    panel.id = index + 1
  })
  // The SDK hides links and marks in a menu, which older versions of Grafana do not have.
  for (const shown of [...(built.links ?? []), ...(built.annotations.list ?? [])]) delete shown.placement
  return built
}

function stuckMarks(): dashboard.AnnotationQueryBuilder {
  return new dashboard.AnnotationQueryBuilder()
    .name('STUCK')
    .datasource(SOURCE)
    .enable(true)
    .iconColor('red')
    .expr('sum by (cause) (increase(unstuck_transitions_total{to="stuck"}[1m])) > 0')
    .titleFormat('STUCK')
    .textFormat('{{cause}}')
    .step('15s')
}

function otherBoards(): dashboard.DashboardLinkBuilder {
  return new dashboard.DashboardLinkBuilder('unstuck')
    .type(dashboard.DashboardLinkType.Dashboards)
    .tags(['unstuck'])
    .asDropdown(false)
    .includeVars(true)
    .keepTime(true)
}
