//! Regions, IDCs and host types, as clients ask for them.

use obfleet_wire::{
    Code, Refusal,
    reason::{Arg, Reason, Thing},
    site::{HostType, Idc as IdcView, NewIdc, NewSite, Region},
    time::Timestamp,
};

use super::{Error, Fleet};
use crate::{
    inventory::{Added, DEFAULT_SITE, HostPlace, Idc, Removed, Site, SiteKind, SiteMap},
    view,
};

/// Longest name, in characters.
const NAME: usize = 64;
/// Longest description, in characters.
const DESCRIPTION: usize = 512;

impl Fleet {
    async fn sites(&self) -> Result<SiteMap, Error> {
        Ok(self.crew.inventory.sites().await?)
    }

    /// All regions, by id.
    pub async fn regions(&self) -> Result<Vec<Region>, Error> {
        Ok(self.sites().await?.regions.values().map(view::region).collect())
    }

    /// All IDCs, by id.
    pub async fn idcs(&self) -> Result<Vec<IdcView>, Error> {
        let sites = self.sites().await?;
        Ok(sites.idcs.values().map(|idc| view::idc(&sites, idc)).collect())
    }

    /// All host types, by id.
    pub async fn host_types(&self) -> Result<Vec<HostType>, Error> {
        Ok(self.sites().await?.host_types.values().map(view::host_type).collect())
    }

    /// One region.
    pub async fn region(&self, id: i64) -> Result<Region, Error> {
        let sites = self.sites().await?;
        let region = sites.regions.get(&id).map(view::region);
        Ok(region.ok_or_else(|| missing(SiteKind::Region, id))?)
    }

    /// One IDC.
    pub async fn idc(&self, id: i64) -> Result<IdcView, Error> {
        let sites = self.sites().await?;
        let idc = sites.idcs.get(&id).map(|idc| view::idc(&sites, idc));
        Ok(idc.ok_or_else(|| missing(SiteKind::Idc, id))?)
    }

    /// One host type.
    pub async fn host_type(&self, id: i64) -> Result<HostType, Error> {
        let sites = self.sites().await?;
        let host_type = sites.host_types.get(&id).map(view::host_type);
        Ok(host_type.ok_or_else(|| missing(SiteKind::HostType, id))?)
    }

    /// Adds a region.
    pub async fn add_region(&self, body: NewSite) -> Result<Region, Error> {
        let site = self.add_site(SiteKind::Region, body).await?;
        Ok(view::region(&site))
    }

    /// Adds a host type.
    pub async fn add_host_type(&self, body: NewSite) -> Result<HostType, Error> {
        let site = self.add_site(SiteKind::HostType, body).await?;
        Ok(view::host_type(&site))
    }

    /// Adds an IDC to a region.
    pub async fn add_idc(&self, body: NewIdc) -> Result<IdcView, Error> {
        let mut idc = Idc {
            site: new_site(body.name, body.description)?,
            region_id: body.region_id,
        };
        idc.site.id = match self.crew.inventory.insert_idc(&idc).await? {
            Added::Id(id) => id,
            Added::NameTaken => return Err(name_taken(SiteKind::Idc, &idc.site.name).into()),
            Added::NoRegion => return Err(missing(SiteKind::Region, idc.region_id).field("regionId").into()),
        };
        Ok(view::idc(&self.sites().await?, &idc))
    }

    async fn add_site(&self, kind: SiteKind, body: NewSite) -> Result<Site, Error> {
        let mut site = new_site(body.name, body.description)?;
        site.id = match self.crew.inventory.insert_site(kind, &site).await? {
            Added::Id(id) => id,
            Added::NameTaken | Added::NoRegion => return Err(name_taken(kind, &site.name).into()),
        };
        Ok(site)
    }

    /// Where a host is to be: what is not told is the one that is there from the beginning.
    pub async fn place(&self, idc_id: Option<i64>, type_id: Option<i64>) -> Result<HostPlace, Error> {
        let sites = self.sites().await?;
        let place = HostPlace {
            idc_id: idc_id.unwrap_or(DEFAULT_SITE),
            type_id: type_id.unwrap_or(DEFAULT_SITE),
        };
        check_place(&sites, place)?;
        Ok(place)
    }

    /// Removes a region, IDC or host type that nothing uses.
    pub async fn remove_site(&self, kind: SiteKind, id: i64) -> Result<(), Error> {
        if id == DEFAULT_SITE {
            return Err(used(kind, id, Reason::ForNewHosts.into()).into());
        }
        match self.crew.inventory.delete_site(kind, id).await? {
            Removed::Gone => Ok(()),
            Removed::Missing => Err(missing(kind, id).into()),
            Removed::UsedBy(ids) => {
                let list = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                let (thing, member) = match kind {
                    SiteKind::Region => (Thing::Idcs(list), "idcIds"),
                    SiteKind::Idc | SiteKind::HostType => (Thing::Hosts(list), "hostIds"),
                };
                Err(used(kind, id, thing.into())
                    .target(serde_json::json!({ member: ids }))
                    .into())
            }
        }
    }
}

fn thing(kind: SiteKind) -> Thing {
    match kind {
        SiteKind::Region => Thing::RegionKind,
        SiteKind::Idc => Thing::IdcKind,
        SiteKind::HostType => Thing::HostTypeKind,
    }
}

/// IDC and host type are there.
pub(super) fn check_place(sites: &SiteMap, place: HostPlace) -> Result<(), Refusal> {
    if !sites.idcs.contains_key(&place.idc_id) {
        return Err(missing(SiteKind::Idc, place.idc_id));
    }
    if !sites.host_types.contains_key(&place.type_id) {
        return Err(missing(SiteKind::HostType, place.type_id));
    }
    Ok(())
}

/// There is none of that id.
pub(super) fn missing(kind: SiteKind, id: i64) -> Refusal {
    let field = match kind {
        SiteKind::Region => "regionId",
        SiteKind::Idc => "idcId",
        SiteKind::HostType => "typeId",
    };
    Refusal::about(Code::Com10002, [thing(kind).into(), Arg::Text(format!("id {id}"))]).field(field)
}

fn name_taken(kind: SiteKind, name: &str) -> Refusal {
    Refusal::about(Code::Com10006, [thing(kind).into(), name.into()]).field("name")
}

fn used(kind: SiteKind, id: i64, by: Arg) -> Refusal {
    Refusal::about(Code::Cmp07000, [thing(kind).into(), (&id).into(), by])
}

fn new_site(name: String, description: Option<String>) -> Result<Site, Refusal> {
    check_text("name", &name, 1, NAME)?;
    if let Some(text) = &description {
        check_text("description", text, 0, DESCRIPTION)?;
    }
    let now = Timestamp::now();
    Ok(Site {
        id: 0,
        name,
        description,
        created: Some(now),
        updated: Some(now),
    })
}

/// A text for people: so many characters, no control characters, no space at its ends.
pub(super) fn check_text(field: &str, text: &str, least: usize, most: usize) -> Result<(), Refusal> {
    let fits = (least..=most).contains(&text.chars().count());
    if fits && text.trim() == text && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Refusal::invalid(field, Reason::TextForm { least, most }))
}
