//! Verdict, causes and types as JSON.

use serde::Serialize;

use crate::analyze::causes;
use crate::analyze::report::{HolderRow, TypeRow};

use super::{Place, Site, places};

#[derive(Serialize)]
pub struct Verdict<'a> {
    kind: &'static str,
    growing: Option<bool>,
    growth_bytes_per_second: Option<f64>,
    growth_standard_error: Option<f64>,
    explained: Option<f64>,
    forecast: Option<Forecast>,
    remarks: &'a [String],
}

#[derive(Serialize)]
struct Forecast {
    limit: u64,
    seconds: f64,
}

#[derive(Serialize)]
pub struct Cause<'a> {
    kind: &'static str,
    confidence: &'static str,
    bytes: u64,
    blocks: u64,
    leaders: u64,
    growth_bytes_per_second: f64,
    growth_standard_error: f64,
    share: Option<f64>,
    #[serde(rename = "type")]
    type_name: Option<&'a str>,
    site: Option<Site<'a>>,
    stack: Vec<Place>,
    holder: Option<&'a str>,
    evidence: &'a [String],
    advice: &'a str,
    tools: &'a str,
    pid: Option<u32>,
}

impl<'a> Verdict<'a> {
    pub fn of(verdict: &'a causes::Verdict) -> Verdict<'a> {
        Verdict {
            kind: verdict.kind.name(),
            growing: verdict.growing,
            growth_bytes_per_second: verdict.growth.map(|growth| growth.per_second),
            growth_standard_error: verdict.growth.map(|growth| growth.error),
            explained: verdict.explained,
            forecast: verdict.forecast.map(|it| Forecast { limit: it.limit, seconds: it.seconds }),
            remarks: &verdict.remarks,
        }
    }
}

impl<'a> Cause<'a> {
    pub fn of(cause: &'a causes::Cause) -> Cause<'a> {
        Cause {
            kind: cause.kind.name(),
            confidence: cause.confidence.name(),
            bytes: cause.bytes,
            blocks: cause.blocks,
            leaders: cause.leaders,
            growth_bytes_per_second: cause.growth.per_second,
            growth_standard_error: cause.growth.error,
            share: cause.share,
            type_name: cause.type_name.as_deref(),
            site: cause.site.as_ref().map(|site| Site::of(site, true)),
            stack: cause.site.as_ref().map_or(Vec::new(), places),
            holder: cause.holder.as_deref(),
            evidence: &cause.evidence,
            advice: &cause.advice,
            tools: &cause.tools,
            pid: cause.pid,
        }
    }
}

#[derive(Serialize)]
pub struct Type<'a> {
    name: &'a str,
    objects: u64,
    bytes: u64,
    retained: u64,
}

impl<'a> Type<'a> {
    pub fn of(row: &'a TypeRow) -> Type<'a> {
        let TypeRow { name, objects, bytes, retained } = row;
        Type { name, objects: *objects, bytes: *bytes, retained: *retained }
    }
}

#[derive(Serialize)]
pub struct Holder<'a> {
    holder: &'a str,
    bytes: u64,
    blocks: u64,
    retained: Option<u64>,
}

impl<'a> Holder<'a> {
    pub fn of(row: &'a HolderRow) -> Holder<'a> {
        let HolderRow { holder, bytes, blocks, retained } = row;
        Holder { holder, bytes: *bytes, blocks: *blocks, retained: *retained }
    }
}
