// That `model.ts` refuses what Grafana would silently ignore or show wrongly: `tsc` fails on a line here that it does not find
// wrong.

import { loki, override, panel, prometheus, type Alerting, type Dashboard } from './model';

const gridPos = { h: 1, w: 1, x: 0, y: 0 };
const datasource = { type: 'loki', uid: '${loki}' } as const;
const stat = {
  colorMode: 'value', graphMode: 'none', justifyMode: 'auto', orientation: 'auto', percentChangeColorMode: 'standard',
  reduceOptions: { calcs: ['lastNotNull'] }, showPercentChange: false, textMode: 'auto', wideLayout: true,
} as const;

// As it should be.
panel('stat', { id: 1, type: 'stat', title: '', gridPos, options: { ...stat, reduceOptions: { calcs: [] } } });
// @ts-expect-error an option that stat panels do not have
panel('stat', { id: 1, type: 'stat', title: '', gridPos, options: { ...stat, reduceOptions: { calcs: [] }, sparkline: true } });
// @ts-expect-error a value that the option does not have
panel('stat', { id: 1, type: 'stat', title: '', gridPos, options: { ...stat, reduceOptions: { calcs: [] }, colorMode: 'colour' } });
// @ts-expect-error a key of the panel that is none
panel('stat', { id: 1, type: 'stat', title: '', gridPos, options: { ...stat, reduceOptions: { calcs: [] } }, heading: '' });
// @ts-expect-error a field option of another kind of panel
panel('stat', { id: 1, type: 'stat', title: '', gridPos, options: { ...stat, reduceOptions: { calcs: [] } }, fieldConfig: { defaults: { custom: { drawStyle: 'line' } }, overrides: [] } });
// @ts-expect-error a unit is a text
panel('stat', { id: 1, type: 'stat', title: '', gridPos, options: { ...stat, reduceOptions: { calcs: [] } }, fieldConfig: { defaults: { unit: 1 }, overrides: [] } });
// @ts-expect-error an override of a key that is none
override('table', { matcher: { id: 'byName', options: 'a' }, properties: [{ id: 'custom.widht', value: 1 }] });
// @ts-expect-error an override with a value of another type
override('table', { matcher: { id: 'byName', options: 'a' }, properties: [{ id: 'custom.width', value: '1' }] });
// @ts-expect-error a kind of query that is none
loki({ refId: 'A', datasource, editorMode: 'code', expr: '{a="b"}', queryType: 'stream' });
// @ts-expect-error a query for the other data source
prometheus({ refId: 'A', datasource, editorMode: 'code', expr: 'up', instant: true, range: false });
// @ts-expect-error a schema that is not the classic one
export const later: Dashboard = { uid: 'a', title: 'a', schemaVersion: 43, panels: [] };
// @ts-expect-error a key of the dashboard that is none
export const unknown: Dashboard = { uid: 'a', title: 'a', schemaVersion: 42, panels: [], refreshEvery: '1m' };
// @ts-expect-error a state that rules do not have
export const state: Alerting['groups'][0]['rules'][0]['noDataState'] = 'Fine';
