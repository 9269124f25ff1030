// What a dashboard and a provisioning file may say, so that `tsc` refuses keys and values that Grafana does not know.
//
// In: the types of @grafana/schema, which Grafana itself is built with. Out: `Dashboard`, `panel`, `loki` and so on, for the files
// that `read.mjs` writes from the JSON and YAML. Promises: enumerations by their values, as JSON has them; each kind of panel with
// its own options, field options and overrides. Ours, after Grafana's documentation, because the package has no types of them: the
// queries of Loki and Prometheus, data links, the one transformation that is used, and the provisioning files.

import type * as grafana from '@grafana/schema';
import type * as logs from '@grafana/schema/dist/esm/raw/composable/logs/panelcfg/x/LogsPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as text from '@grafana/schema/dist/esm/raw/composable/text/panelcfg/x/TextPanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

// The same shape with enumerations' values in place of their names.
type Json<T> = unknown extends T
  ? unknown
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : T extends (infer Item)[]
        ? Json<Item>[]
        : T extends object
          ? { [Key in keyof T]: Json<T[Key]> }
          : never;

// The kinds of panels, each with its options and its field options.
interface Kinds {
  logs: { options: logs.Options; custom: Record<string, never> };
  stat: { options: stat.Options; custom: Record<string, never> };
  table: { options: table.Options; custom: table.FieldConfig };
  text: { options: text.Options; custom: Record<string, never> };
  timeseries: { options: timeseries.Options; custom: timeseries.FieldConfig };
}

interface Link {
  title: string;
  url: string;
  targetBlank?: boolean;
  oneClick?: boolean;
}

type Defaults = Omit<grafana.FieldConfig, 'custom' | 'links' | 'actions'>;
type Field<Custom> = Json<Defaults> & { custom?: Json<Custom>; links?: Link[] };

// An override names one of the same keys.
type Property<Custom> =
  | { [Key in keyof Defaults]-?: { id: Key; value: Json<NonNullable<Defaults[Key]>> } }[keyof Defaults]
  | { [Key in keyof Custom & string]-?: { id: `custom.${Key}`; value: Json<NonNullable<Custom[Key]>> } }[keyof Custom & string]
  | { id: 'links'; value: Link[] };

interface Override<Custom> {
  matcher: { id: 'byName'; options: string };
  properties: Property<Custom>[];
}

interface Organize {
  id: 'organize';
  options: { excludeByName: Record<string, true>; indexByName: Record<string, number>; renameByName: Record<string, string> };
}

interface Target {
  refId: string;
  editorMode: 'code';
  expr: string;
  legendFormat?: string;
}

interface LokiTarget extends Target {
  datasource: { type: 'loki'; uid: '${loki}' };
  queryType: 'range' | 'instant';
  maxLines?: number;
  direction?: 'forward' | 'backward';
}

interface PrometheusTarget extends Target {
  datasource: { type: 'prometheus'; uid: '${prometheus}' };
  instant: boolean;
  range: boolean;
}

type Replaced = 'datasource' | 'fieldConfig' | 'options' | 'targets' | 'transformations' | 'type';

interface Panel<Kind extends keyof Kinds> extends Omit<Json<grafana.Panel>, Replaced> {
  id: number;
  type: Kind;
  title: string;
  gridPos: { h: number; w: number; x: number; y: number };
  datasource?: LokiTarget['datasource'] | PrometheusTarget['datasource'];
  fieldConfig?: { defaults: Field<Kinds[Kind]['custom']>; overrides: Override<Kinds[Kind]['custom']>[] };
  options: Json<Kinds[Kind]['options']>;
  targets?: (LokiTarget | PrometheusTarget)[];
  transformations?: Organize[];
}

type AnyPanel = { [Kind in keyof Kinds]: Panel<Kind> }[keyof Kinds];

export interface Dashboard extends Omit<Json<grafana.Dashboard>, 'panels'> {
  uid: string;
  title: string;
  // The last of the classic model.
  schemaVersion: 42;
  panels: (AnyPanel | Json<grafana.RowPanel>)[];
}

// By these, each object is checked for keys that its own kind does not have.
export const loki = (target: LokiTarget) => target;
export const prometheus = (target: PrometheusTarget) => target;
export const row = (panel: Json<grafana.RowPanel>) => panel;
export const panel = <Kind extends keyof Kinds>(kind: Kind, given: Panel<NoInfer<Kind>>) => given as Panel<Kind>;
export const override = <Kind extends keyof Kinds>(kind: Kind, given: Override<Kinds[NoInfer<Kind>]['custom']>) =>
  given as Override<Kinds[Kind]['custom']>;

// What follows is after the documentation of provisioning.

interface DerivedField {
  name: string;
  matcherType: 'label' | 'regex';
  matcherRegex: string;
  url: string;
  urlDisplayLabel?: string;
  datasourceUid?: string;
}

interface DataSource {
  name: string;
  uid: string;
  orgId?: number;
  access: 'proxy';
  url: string;
  isDefault?: boolean;
  editable?: boolean;
}

interface LokiSource extends DataSource {
  type: 'loki';
  jsonData?: { maxLines?: number; timeout?: number; derivedFields?: DerivedField[]; httpHeaderName1?: string };
}

interface PrometheusSource extends DataSource {
  type: 'prometheus';
  jsonData?: { httpMethod?: 'GET' | 'POST'; timeInterval?: string; prometheusType?: 'Prometheus' | 'Mimir' | 'Cortex' | 'Thanos' };
}

export interface DataSources {
  apiVersion: 1;
  datasources: (LokiSource | PrometheusSource)[];
}

export interface Providers {
  apiVersion: 1;
  providers: {
    name: string;
    orgId?: number;
    folder: string;
    folderUid?: string;
    type: 'file';
    disableDeletion?: boolean;
    updateIntervalSeconds?: number;
    allowUiUpdates?: boolean;
    options: { path: string; foldersFromFilesStructure?: boolean };
  }[];
}

interface RelativeTimeRange {
  from: number;
  to: number;
}

interface QueryStep {
  refId: string;
  queryType?: string;
  relativeTimeRange: RelativeTimeRange;
  datasourceUid: 'harbinger-loki' | 'harbinger-prometheus';
  model: { refId: string; expr: string; queryType?: 'instant'; instant?: true; editorMode: 'code' };
}

interface ThresholdStep {
  refId: string;
  relativeTimeRange?: RelativeTimeRange;
  datasourceUid: '__expr__';
  model: {
    refId: string;
    type: 'threshold';
    expression: string;
    conditions: [{ evaluator: { type: 'gt' | 'lt'; params: [number] } }];
  };
}

export interface Alerting {
  apiVersion: 1;
  groups: {
    orgId: number;
    name: string;
    folder: string;
    interval: string;
    rules: {
      uid: string;
      title: string;
      condition: string;
      data: (QueryStep | ThresholdStep)[];
      dashboardUid?: string;
      panelId?: number;
      noDataState: 'OK' | 'NoData' | 'Alerting' | 'KeepLast';
      execErrState: 'OK' | 'Error' | 'Alerting' | 'KeepLast';
      for: string;
      keepFiringFor?: string;
      annotations: { summary: string; description: string };
      labels: { severity: 'critical' | 'warning' | 'info' | `{{ if ${string}` };
      isPaused?: boolean;
    }[];
  }[];
}
