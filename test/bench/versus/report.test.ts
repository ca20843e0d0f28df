/** What the comparison says of samples, and its pictures; nothing here is measured. */
import t from 'tap';
import { Samples, short } from './figures.js';
import { compared, networks } from './measure.js';
import { svg } from './svg.js';

t.test('medians, spread, and the ratio to the floor round by round', async (t) => {
  const samples = new Samples([10, 100], 'floor');
  // The machine was slow in the second round, for both.
  for (const connects of [1000, 500, 1100]) samples.add('floor', 10, { connects });
  for (const connects of [900, 450, 880]) samples.add('ours', 10, { connects, load: 7 });
  t.same(samples.figure('ours', 10, 'connects'), {
    ...{ competitor: 'ours', size: 10, quantity: 'connects' },
    ...{ median: 880, min: 450, max: 900, ratio: 0.9 },
  });
  t.equal(samples.figure('ours', 10, 'load')?.ratio, undefined, 'the floor loads nothing');
  t.equal(samples.figure('ours', 100, 'connects'), undefined, 'not measured');
  t.equal(samples.figure('ours', 10, 'memory'), undefined);
});

t.test('connects are compared pair by pair', async (t) => {
  // The machine was three times as fast for a while, and away in the midst of a pair.
  const rates = [
    ...[
      [90, 100],
      [270, 300],
      [282, 300],
      [96, 100],
      [10, 100],
    ],
  ] as const;
  const pairs = rates.map(([here = 0, there = 0]) => ({ here, there, made: 1 }));
  t.same(compared(pairs), { connects: 96, against: 0.9, low: 0.9, high: 0.94 });
});

t.test('numbers for people', async (t) => {
  t.same([0, 0.00001, 0.1234, 12.345, 1234.5, 1e6].map(short), ['0', '0', '0.123', '12.3', '1,235', '1,000,000']);
});

t.test('a list of networks has what the traffic goes to in its middle, once', async (t) => {
  for (const size of [10, 1000]) {
    const list = networks(size);
    t.equal(list.length, size);
    t.equal(new Set(list).size, size);
    t.equal(list.indexOf('203.0.113.10/32'), size / 2);
  }
});

t.test('a picture', async (t) => {
  const point = (x: number, y: number) => ({ x, y, min: y * 0.9, max: y * 1.1 });
  const chart = {
    ...{ title: 'a < b & "c"', xLabel: 'rules', yLabel: 'ms', note: 'here' },
    series: [
      { name: 'one', points: [point(10, 1), point(1000, 100)] },
      { name: 'two', points: [point(10, 5), point(1000, 0)] },
      { name: 'nothing', points: [] },
    ],
  };
  const text = svg(chart);
  t.match(text, /^<svg xmlns="http:\/\/www\.w3\.org\/2000\/svg" viewBox="0 0 \d+ \d+"/);
  t.ok(text.endsWith('</svg>\n'));
  t.match(text, 'a &lt; b &amp; &quot;c&quot;');
  t.notMatch(text, /NaN|Infinity|undefined/);
  const circles = [...text.matchAll(/<circle cx="([\d.]+)" cy="([\d.]+)"/g)].map(([, x, y]) => [Number(x), Number(y)]);
  const [low, high] = circles as [[number, number], [number, number]];
  t.ok(low[0] < high[0] && low[1] > high[1], 'more is to the right, and above');
  t.equal([...text.matchAll(/<polyline/g)].length, 3);
  t.match(text, 'nothing: none');
  t.notMatch(svg({ ...chart, series: [] }), /NaN|Infinity/, 'without anything to show');
});
