//! Causes that no block is: what is resident beyond live blocks.
//!
//! The resident set less what is live, and less what is mapped, is what the
//! allocators keep, the stacks of threads, and code. If that grows, or stays
//! high after live memory has fallen, the table of resident memory says which
//! of them it is.

use pyshim_dump::heap::{Heap, MemoryKind, State};
use pyshim_dump::layout::Gauge;
use pyshim_dump::record::Origin;

use crate::analyze::completeness::has_python_blocks;
use crate::analyze::course::{Course, Weight};
use crate::analyze::growth;
use crate::analyze::report::Rate;
use crate::units::{bytes, count, counted};

use super::candidates::Candidate;
use super::cause::{Cause, Confidence, Kind};
use super::places::Places;
use super::scene::Scene;
use super::words;

/// Less than this is not worth a cause.
const ENOUGH: u64 = 8 << 20;

/// What is resident and no live block, by what it is.
#[derive(Clone, Copy, Debug, Default)]
struct Beyond {
    pymalloc: u64,
    libc: u64,
    stacks: u64,
}

impl Beyond {
    fn of(scene: &Scene) -> Beyond {
        if let Some(heap) = scene.heap.filter(|heap| !heap.memory.is_empty()) {
            let row = |kind| resident(heap, kind).0;
            return Beyond {
                pymalloc: row(MemoryKind::PymallocSlack),
                libc: row(MemoryKind::LibcSlack),
                stacks: row(MemoryKind::Stacks),
            };
        }
        let sites = scene.dump.sites.iter().enumerate();
        let small = sites.filter(|(_, site)| {
            site.stack.as_ref().is_some_and(|stack| stack.origin == Origin::PythonSmall)
        });
        let small =
            small.fold(0u64, |sum, (id, _)| sum.saturating_add(scene.last(id as u32).bytes));
        Beyond {
            pymalloc: scene.gauge(Gauge::PymallocArenas).saturating_sub(small),
            libc: scene.gauge(Gauge::LibcFree),
            stacks: scene.gauge(Gauge::Stacks),
        }
    }

    fn slack(&self) -> u64 {
        self.pymalloc.saturating_add(self.libc)
    }
}

fn resident(heap: &Heap, kind: MemoryKind) -> (u64, u64) {
    let rows = heap.memory.iter().filter(|row| row.kind == kind);
    rows.fold((0, 0), |sum, row| (sum.0 + row.resident, sum.1 + row.regions))
}

/// Those of a process; `found` is what grows of its blocks.
pub fn causes(scene: &Scene, places: &mut Places, found: &[Candidate]) -> Vec<Cause> {
    let beyond = Beyond::of(scene);
    let (cause, threads) = stacks(scene, places, found, beyond).unzip();
    let mut causes: Vec<Cause> = cause.into_iter().collect();
    if !has_python_blocks(scene.dump) {
        // What is no known block is Python's as well as free.
        return causes;
    }
    let Some((rest, live)) = courses(scene, threads.as_ref()) else { return causes };
    let trend = rest.trend();
    let grown = (rest.end() - rest.startup()).max(0.0);
    // Each live block has some overhead: what grows with the blocks is part of their cause.
    let blocks = live.trend();
    let blocks = if blocks.goes_on && blocks.rises() { blocks.slope } else { 0.0 };
    // The rest may be code, or this tool's own memory.
    let known = (beyond.slack() as f64 / grown.max(1.0)).min(1.0);
    let rate = trend.rate();
    let rate = Rate { per_second: known * rate.per_second, error: known * rate.error };
    let grows = rate.per_second > 0.5 * blocks
        && growth::matters(&trend, rest.end() as u64, rest.end() as u64);
    if grows && grown >= (ENOUGH / 2) as f64 {
        let grown = grown as u64;
        let base = Cause {
            confidence: scene.confidence(State::Native, &trend, u64::MAX),
            growth: rate,
            ..Cause::default()
        };
        // Most of it has to be found there.
        if beyond.slack() >= (grown / 5 * 3).max(ENOUGH / 2) {
            let mut cause = Cause { bytes: beyond.slack(), ..base };
            let apart = if threads.is_some() { " and stacks of threads" } else { "" };
            cause.evidence.push(format!(
                "what is resident beyond live blocks{apart} grew by {}, live blocks by {}",
                bytes(grown),
                bytes((live.end() - live.startup()).max(0.0) as u64),
            ));
            causes.push(retention(scene, places, cause, beyond));
            return causes;
        }
    }
    causes.extend(stayed(scene, places, &live, beyond));
    causes
}

/// What is resident beyond blocks, mappings and what `threads` have more since start-up, and the live
/// blocks of the heaps. The first ends at the last point: what came later is of the teardown.
fn courses(scene: &Scene, threads: Option<&Course>) -> Option<(Course, Course)> {
    let count = scene.dump.sites.len() as u32;
    let weight = |site| Weight { site, course: usize::from(scene.is_mapping(site)), part: 1.0 };
    let weights: Vec<Weight> = (0..count).map(weight).collect();
    let courses = scene.courses(&weights, 2);
    let [live, mapped] = <[Course; 2]>::try_from(courses).ok()?;
    let points = scene.dump.timeline.points.get(..scene.times.points())?;
    if points.last()?.rss == 0 {
        return None;
    }
    let floor = mapped.startup();
    let mut rest = Course { bytes: Vec::new(), ..live.clone() };
    rest.seconds.truncate(points.len());
    let stacks = |at: usize| threads.and_then(|it| it.bytes.get(at)).copied().unwrap_or(0.0);
    let levels = points.iter().zip(live.bytes.iter().zip(&mapped.bytes));
    for (at, (point, (live, mapped))) in levels.enumerate() {
        // Address space that was there at start-up says nothing about what of it is resident.
        let known = live + (mapped - floor).max(0.0) + stacks(at);
        rest.bytes.push((point.rss as f64 - known).max(0.0));
    }
    // What is kept shows when little is live; in between it is in use.
    let around = |at: usize| {
        let near = rest.bytes.iter().skip(at.saturating_sub(2)).take(5);
        near.copied().fold(0.0, f64::max)
    };
    rest.bytes = (0..rest.bytes.len()).map(around).collect();
    Some((rest, live))
}

/// Live memory fell, and the resident set did not.
fn stayed(scene: &Scene, places: &mut Places, live: &Course, beyond: Beyond) -> Option<Cause> {
    let points = scene.dump.timeline.points.get(..scene.times.points())?;
    let rss = points.last()?.rss;
    let top = live.bytes.iter().take(points.len()).enumerate();
    let (at, &peak) = top.max_by(|a, b| a.1.total_cmp(b.1))?;
    let fell = (peak - live.end()).max(0.0) as u64;
    let then = points.get(at)?.rss;
    let high = live.bytes.iter().rposition(|&now| now > live.end() + fell as f64 / 2.0)?;
    let since = live.seconds.last()? - live.seconds.get(high)?;
    let lasting = since >= (scene.run_s() / 20.0).max(1.0);
    let kept = rss.saturating_add(fell / 2) >= then && beyond.slack() >= fell / 3;
    if fell < ENOUGH || fell < rss / 4 || !lasting || !kept {
        return None;
    }
    let confidence = match scene.heap {
        Some(heap) if !heap.memory.is_empty() => Confidence::Certain,
        _ => Confidence::Likely,
    };
    let mut cause = Cause { bytes: beyond.slack(), confidence, ..Cause::default() };
    cause.evidence.push(format!(
        "live blocks fell by {} from their peak, the resident set by {}",
        bytes(fell),
        bytes(then.saturating_sub(rss)),
    ));
    Some(retention(scene, places, cause, beyond))
}

fn retention(scene: &Scene, places: &mut Places, cause: Cause, beyond: Beyond) -> Cause {
    let mut cause = Cause { kind: Kind::AllocatorRetention, ..cause };
    cause.site = come_and_gone(scene, beyond).map(|site| places.site(scene.at, site));
    let heap = scene.heap;
    let arenas =
        |kind: u8| heap.into_iter().flat_map(|heap| &heap.arenas).filter(move |it| it.kind == kind);
    let sums = |kind: u8| {
        arenas(kind).fold((0u64, 0u64, 0u64, 0u64), |sum, it| {
            (sum.0 + 1, sum.1 + it.resident, sum.2 + it.live, sum.3 + it.top)
        })
    };
    if beyond.pymalloc * 4 >= beyond.slack() {
        let (number, resident, live, _) = sums(2);
        let full = match number {
            0 => String::new(),
            _ => format!(
                ": its arenas have {} resident and are {} full",
                bytes(resident),
                percent(live, resident)
            ),
        };
        cause.evidence.push(format!("{} are free inside pymalloc{full}", bytes(beyond.pymalloc)));
    }
    if beyond.libc * 4 >= beyond.slack() {
        cause
            .evidence
            .push(format!("{} are free inside the C library's heaps (libc)", bytes(beyond.libc)));
        let (_, resident, live, top) = sums(0);
        if resident > 0 {
            cause.evidence.push(format!(
                "the first heap: {} resident, {} live, {} free at its top",
                bytes(resident),
                bytes(live),
                bytes(top)
            ));
        }
        let (number, resident, live, top) = sums(1);
        if number > 0 {
            cause.evidence.push(format!(
                "{} of threads: {} resident, {} live, {} free at their tops",
                counted(number, "further arena"),
                bytes(resident),
                bytes(live),
                bytes(top)
            ));
        }
    }
    cause.advice = advice(beyond, arenas(1).count());
    cause.tools = words::tools(&cause);
    cause
}

/// The site of which most was allocated and freed again in the allocator that keeps it.
fn come_and_gone(scene: &Scene, beyond: Beyond) -> Option<u32> {
    let small = beyond.pymalloc > beyond.libc;
    let kept = |(id, site): &(u32, &pyshim_dump::Site)| {
        let origin = site.stack.as_ref().map(|stack| stack.origin);
        let fits =
            origin.is_some_and(|it| (it == Origin::PythonSmall) == small && !it.is_mapping());
        let freed = site.totals.allocated.bytes.saturating_sub(scene.last(*id).bytes);
        fits.then_some((freed, std::cmp::Reverse(*id)))
    };
    let sites = (0u32..).zip(&scene.dump.sites);
    sites.filter_map(|it| Some((kept(&it)?, it.0))).max().map(|it| it.1)
}

fn percent(part: u64, whole: u64) -> String {
    format!("{:.0} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn advice(beyond: Beyond, arenas: usize) -> String {
    if beyond.pymalloc > beyond.libc {
        "few live objects keep whole arenas: do not make long-lived small objects among many short-lived ones, or do such work in a process of its own".into()
    } else if arenas > 4 {
        "set MALLOC_ARENA_MAX=2, or call malloc_trim(0) after the work; the blocks themselves are freed".into()
    } else {
        "call malloc_trim(0) after the work, or set MALLOC_TRIM_THRESHOLD_; a live block at the top keeps what is free below it".into()
    }
}

/// Functions in which a thread begins its life.
const BEGINNINGS: [&str; 4] =
    ["pthread_create", "start_new_thread", "PyThread_start", "_dl_allocate_tls"];

/// Threads that are begun and do not end: each has a stack. How many there were over time is known
/// from the blocks that each of them has; what is resident of a stack, from the table. With the cause comes
/// what their stacks have more at each moment than when the start-up ended.
fn stacks(
    scene: &Scene,
    places: &mut Places,
    found: &[Candidate],
    beyond: Beyond,
) -> Option<(Cause, Course)> {
    const FEW: u64 = 1 << 20;
    if beyond.stacks < FEW {
        return None;
    }
    let begun = found.iter().find(|it| places.calls(scene.at, it.site, &BEGINNINGS))?;
    let end = begun.course.end();
    let startup = begun.course.startup();
    let grown = (end - startup) / end.max(1.0) * beyond.stacks as f64;
    if grown < (FEW / 4) as f64 {
        return None;
    }
    let per_byte = beyond.stacks as f64 / end.max(1.0);
    let rate = begun.trend.rate();
    let regions = scene.heap.map_or(0, |heap| resident(heap, MemoryKind::Stacks).1);
    let mut cause = Cause {
        kind: Kind::Mapping,
        bytes: beyond.stacks,
        blocks: regions,
        leaders: regions,
        confidence: scene.confidence(State::Native, &begun.trend, u64::MAX),
        growth: Rate { per_second: rate.per_second * per_byte, error: rate.error * per_byte },
        site: Some(places.site(scene.at, begun.site)),
        ..Cause::default()
    };
    let number = match regions {
        0 => String::new(),
        regions => format!(" of {}", counted(regions, "thread")),
    };
    cause.evidence.push(format!("thread stacks{number} have {} resident", bytes(beyond.stacks)));
    cause.advice =
        "threads are started and do not end: join them, or use a pool; threading.stack_size() bounds each"
            .into();
    cause.tools = words::tools(&cause);
    let mut course = begun.course.clone();
    course.bytes.iter_mut().for_each(|it| *it = (*it - startup).max(0.0) * per_byte);
    Some((cause, course))
}

/// What the table of resident memory says of mappings.
pub fn mapped(scene: &Scene) -> Vec<String> {
    let Some(heap) = scene.heap else { return Vec::new() };
    let words = [
        (MemoryKind::Mapped, "memory that the program mapped itself"),
        (MemoryKind::Shared, "shared memory (shm, memfd)"),
        (MemoryKind::Files, "mapped files"),
    ];
    let line = |(kind, what): (MemoryKind, &str)| {
        let (bytes_resident, regions) = resident(heap, kind);
        let regions =
            format!("{} {}", count(regions), if regions == 1 { "region" } else { "regions" });
        (bytes_resident >= 1 << 20)
            .then(|| format!("resident: {} of {what} in {regions}", bytes(bytes_resident)))
    };
    words.into_iter().filter_map(line).collect()
}
