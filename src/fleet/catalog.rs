//! Actions and projects in memory. Versions of actions never change; a project is read again
//! when an invocation names a newer revision than the one held.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::{Action, Project};
use crate::store::claim::Claim;
use crate::store::{Database, StoreError, catalog};

/// So many entries are kept; beyond, all are forgotten and read again.
const MOST: usize = 50_000;

#[derive(Default)]
pub struct Catalog {
    actions: Mutex<HashMap<(String, i32), Arc<Action>>>,
    projects: Mutex<HashMap<String, Arc<Project>>>,
}

impl Catalog {
    /// Reads what these claims need and is not here yet.
    pub async fn prepare(&self, database: &Database, claims: &[Claim]) -> Result<(), StoreError> {
        // Before looking what is lacking: what these claims need stays until they have taken it.
        self.make_room();
        let lacks_action = |claim: &&Claim| self.action(claim).is_none();
        let mut actions: HashSet<(String, i32)> =
            claims.iter().filter(lacks_action).map(|c| (c.action_id.clone(), c.action_version)).collect();
        let shadows = claims.iter().filter_map(|claim| Some((claim, claim.shadow_version?)));
        actions
            .extend(shadows.filter(|(claim, _)| self.shadow(claim).is_none()).map(|(claim, version)| (claim.action_id.clone(), version)));
        if !actions.is_empty() {
            let found = catalog::action_versions(database, &actions.into_iter().collect::<Vec<_>>()).await?;
            let mut held = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
            held.extend(found.into_iter().map(|action| ((action.id.clone(), action.version), Arc::new(action))));
        }
        let lacks_project = |claim: &&Claim| self.project(claim).is_none();
        let projects: HashSet<String> = claims.iter().filter(lacks_project).map(|claim| claim.project_id.clone()).collect();
        if !projects.is_empty() {
            let found = catalog::projects(database, &projects.into_iter().collect::<Vec<_>>()).await?;
            let mut held = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            held.extend(found.into_iter().map(|(id, project)| (id, Arc::new(project))));
        }
        Ok(())
    }

    fn make_room(&self) {
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        if actions.len() > MOST {
            actions.clear();
        }
        let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        if projects.len() > MOST {
            projects.clear();
        }
    }

    pub fn action(&self, claim: &Claim) -> Option<Arc<Action>> {
        let held = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&(claim.action_id.clone(), claim.action_version)).cloned()
    }

    /// The candidate that gets this event, too.
    pub fn shadow(&self, claim: &Claim) -> Option<Arc<Action>> {
        let version = claim.shadow_version?;
        let held = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&(claim.action_id.clone(), version)).cloned()
    }

    pub fn project(&self, claim: &Claim) -> Option<Arc<Project>> {
        let held = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        held.get(&claim.project_id).filter(|project| project.revision >= claim.project_revision).cloned()
    }
}
