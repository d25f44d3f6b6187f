// A group looks at one column in one window: row `window * cols + column` of the derived table. An invocation takes
// every 256th row; with at most 1,000,000 rows it makes 3907 turns a look, and 15 looks are the most of a pass.

const GROUP = 256u;
const NOWHERE = 0xffffffffu;
const NORMAL_MIN = 1.17549435e-38;      // drivers may take what is smaller for zero

var<workgroup> bins: array<atomic<u32>, 256>;
var<workgroup> tree: array<f32, 256>;
var<workgroup> chosen: vec2<u32>;       // the prefix of the value that is looked for, and its rank below that prefix
var<workgroup> counted: atomic<u32>;
var<workgroup> whole: f32;

struct Window { first: u32, end: u32, column: u32 }

fn values_at(file: File, window: Window) -> u32 {
    return file.offset + window.column * file.rows;
}

fn is_there(file: File, column: u32, row: u32) -> bool {
    let word = input[file.valid_offset + column * ((file.rows + 31u) / 32u) + row / 32u];
    return ((word >> (row % 32u)) & 1u) == 1u;
}

// The first row that is not before the window.
fn first_row(file: File, window: u32) -> u32 {
    if file.timed == 0u {
        let beyond = window > file.rows / params.window_rows;     // where the product might not fit
        return select(min(window * params.window_rows, file.rows), file.rows, beyond);
    }
    let time = f32(window) * params.window_seconds;
    var low = 0u;
    var high = file.rows;
    while low < high {
        let middle = (low + high) / 2u;
        if bitcast<f32>(input[file.time_offset + middle]) < time {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

fn window_of(file: File, index: u32) -> Window {
    let window = index / file.cols;
    let last = window + 1u == file.out_rows / file.cols;
    var end = file.rows;
    if !last {
        end = first_row(file, window + 1u);
    }
    return Window(first_row(file, window), end, index % file.cols);
}

// Whole numbers in the order of the numbers they stand for, and the way back.
fn key_of(number: f32) -> u32 {
    let bits = bitcast<u32>(number);
    return bits ^ select(0x80000000u, 0xffffffffu, (bits >> 31u) == 1u);
}

fn number_of(key: u32) -> f32 {
    return bitcast<f32>(key ^ select(0xffffffffu, 0x80000000u, (key >> 31u) == 1u));
}

fn gap(a: f32, b: f32) -> f32 {
    let between = abs(a - b);
    return select(between, 0.0, between < NORMAL_MIN);
}

// The `rank`th lowest, from 1, of what is there: of the values, or of their distances from `centre`. Byte by byte from
// the highest: count the values that share the bytes found so far by their next byte.
fn lowest(file: File, window: Window, rank: u32, distances: bool, centre: f32, local: u32) -> f32 {
    if local == 0u {
        chosen = vec2(0u, rank);
    }
    for (var shift = 24u; shift < 32u; shift -= 8u) {       // below zero it is huge
        atomicStore(&bins[local], 0u);
        let prefix = workgroupUniformLoad(&chosen).x;
        let known = select(0xffffffffu << ((shift + 8u) & 31u), 0u, shift == 24u);
        for (var row = window.first + local; row < window.end; row += GROUP) {
            if is_there(file, window.column, row) {
                let value = bitcast<f32>(input[values_at(file, window) + row]);
                let key = key_of(select(value, gap(value, centre), distances));
                if (key & known) == prefix {
                    atomicAdd(&bins[(key >> shift) & 255u], 1u);
                }
            }
        }
        workgroupBarrier();
        if local == 0u {
            var below = chosen.y;
            var bin = 0u;
            while bin < 255u && below > atomicLoad(&bins[bin]) {
                below -= atomicLoad(&bins[bin]);
                bin++;
            }
            chosen = vec2(prefix | (bin << shift), below);
        }
        workgroupBarrier();
    }
    return number_of(workgroupUniformLoad(&chosen).x);
}

// The sum of what all invocations bring, or the highest of it, as a tree.
fn together(mine: f32, highest: bool, local: u32) -> f32 {
    workgroupBarrier();
    tree[local] = mine;
    for (var half = GROUP / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if local < half {
            let other = tree[local + half];
            tree[local] = select(tree[local] + other, max(tree[local], other), highest);
        }
    }
    if local == 0u {
        whole = tree[0];
    }
    return workgroupUniformLoad(&whole);
}

// The same for whole numbers.
fn count_together(mine: u32, local: u32) -> u32 {
    if local == 0u {
        atomicStore(&counted, 0u);
    }
    workgroupBarrier();
    atomicAdd(&counted, mine);
    workgroupBarrier();
    let count = atomicLoad(&counted);
    workgroupBarrier();
    return count;
}

// The rank of the lowest value that at least `percent` of `count` values do not exceed.
fn rank(count: u32, percent: u32) -> u32 {
    return max((count * percent + 99u) / 100u, 1u);
}

@compute @workgroup_size(256)
fn sum_up(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let file = files[group.z];
    let index = group.y * 32768u + group.x;
    let window = window_of(file, index);
    var here = 0u;
    var lowest_here = 3e38;
    var highest_here = -3e38;
    for (var row = window.first + local; row < window.end; row += GROUP) {
        if is_there(file, window.column, row) {
            let value = bitcast<f32>(input[values_at(file, window) + row]);
            here++;
            lowest_here = min(lowest_here, value);
            highest_here = max(highest_here, value);
        }
    }
    let count = count_together(here, local);
    let low = -together(-lowest_here, true, local);
    let high = together(highest_here, true, local);
    let p50 = lowest(file, window, rank(count, 50u), false, 0.0, local);
    let p95 = lowest(file, window, rank(count, 95u), false, 0.0, local);
    let p99 = lowest(file, window, rank(count, 99u), false, 0.0, local);

    // Sums of small numbers: differences from the median, then from the mean, in parts of the range.
    let range = gap(high, low);
    let part = select(1.0 / range, 0.0, range == 0.0);
    var sum_here = 0.0;
    for (var row = window.first + local; row < window.end; row += GROUP) {
        if is_there(file, window.column, row) {
            sum_here += (bitcast<f32>(input[values_at(file, window) + row]) - p50) * part;
        }
    }
    let mean = p50 + together(sum_here, false, local) / f32(count) * range;
    var square_here = 0.0;
    for (var row = window.first + local; row < window.end; row += GROUP) {
        if is_there(file, window.column, row) {
            let apart = (bitcast<f32>(input[values_at(file, window) + row]) - mean) * part;
            square_here += apart * apart;
        }
    }
    let deviation = sqrt(together(square_here, false, local) / f32(count)) * range;
    if local == 0u && index < file.out_rows {
        let row = file.out_offset + index;
        let is_empty = window.first >= window.end;
        output[row].start = select(window.first, NOWHERE, is_empty);     // no such row: it is left out
        output[row].column = window.column;
        output[row].count = count;
        output[row].missing = select(window.end - window.first - count, 0u, is_empty);
        let nothing = bitcast<f32>(NOWHERE - local);                     // not a number: written as missing
        output[row].min = select(low, nothing, count == 0u);
        output[row].max = select(high, nothing, count == 0u);
        output[row].mean = select(mean, nothing, count == 0u);
        output[row].deviation = select(deviation, nothing, count == 0u);
        output[row].p50 = select(p50, nothing, count == 0u);
        output[row].p95 = select(p95, nothing, count == 0u);
        output[row].p99 = select(p99, nothing, count == 0u);
    }
}

// What stands out by the median and the median distance from it: both stay where they are however far out it is. If
// more than half of all values are the same, that distance is zero, and the mean distance takes its place. The factors
// make both the standard deviation of normally distributed values.
@compute @workgroup_size(256)
fn find_anomalies(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let file = files[group.z];
    let index = group.y * 32768u + group.x;
    let window = window_of(file, index);
    let summary = output[file.out_offset + min(index, file.out_rows - 1u)];
    let median = summary.p50;
    let range = gap(summary.max, summary.min);
    let part = select(1.0 / range, 0.0, range == 0.0);
    let usual = lowest(file, window, rank(summary.count, 50u), true, median, local);
    var sum_here = 0.0;
    var furthest_here = 0.0;
    for (var row = window.first + local; row < window.end; row += GROUP) {
        if is_there(file, window.column, row) {
            let far = gap(bitcast<f32>(input[values_at(file, window) + row]), median);
            sum_here += far * part;
            furthest_here = max(furthest_here, far);
        }
    }
    let furthest = together(furthest_here, true, local);
    let mean_distance = together(sum_here, false, local) / f32(summary.count) * range;
    let spread = select(1.4826 * usual, 1.2533 * mean_distance, usual == 0.0);
    let scale = max(spread, params.deviation_min);
    var found_here = 0u;
    for (var row = window.first + local; row < window.end; row += GROUP) {
        if is_there(file, window.column, row) {
            let far = gap(bitcast<f32>(input[values_at(file, window) + row]), median);
            found_here += u32(far > params.z_threshold * scale);
        }
    }
    let found = count_together(found_here, local);
    if local == 0u && index < file.out_rows && summary.count > 0u {
        let row = file.out_offset + index;
        output[row].anomalies = found;
        output[row].worst_z = select(min(furthest / scale, 1e6), 0.0, furthest == 0.0);
    }
}

@compute @workgroup_size(256)
fn tell(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let file = files[group.z];
    var windows_here = 0u;
    var missing_here = 0u;
    var anomalies_here = 0u;
    var worst_here = 0.0;
    for (var index = local; index < file.out_rows; index += GROUP) {
        let row = file.out_offset + index;
        windows_here += u32(output[row].column == 0u && output[row].start != NOWHERE);
        missing_here += output[row].missing;
        anomalies_here += output[row].anomalies;
        worst_here = max(worst_here, output[row].worst_z);
    }
    let windows = count_together(windows_here, local);
    let missing = count_together(missing_here, local);
    let anomalies = count_together(anomalies_here, local);
    let worst = together(worst_here, true, local);
    if local == 0u {
        report[group.z].rows = file.rows + file.untimed;
        report[group.z].columns = file.cols;
        report[group.z].windows = windows;
        report[group.z].missing = missing + file.untimed * file.cols;
        report[group.z].anomalies = anomalies;
        report[group.z].worst_z = worst;
    }
}
