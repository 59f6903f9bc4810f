//! The command `tributary-lab`: every study by its name.
//!
//! A researcher's own program makes a [`Lab`], registers its own methods and studies, and calls [`Lab::main`]; it then
//! has every command of this program.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Command, FromArgMatches as _, Subcommand as _};
use tributary_protocol::aggregate::Rule;
use tributary_simulations::cli::{Program, ScenarioCommand, answer, exit_code, print_names};
use tributary_simulations::{Catalogue, Named};

use crate::learner::federated;
use crate::studies::attribution::Method;
use crate::studies::{attacks, attribution, cost, gaming, learning, texts, votes};
use crate::study::{Study, Work};

/// Everything that studies can be made of, by name.
pub struct Lab {
    /// Aggregation rules, attacks, learners and links.
    pub catalogue: Catalogue,
    /// Attribution methods that score the members of a run.
    pub methods: Named<dyn Method>,
    /// Studies beside the built-in ones.
    studies: Vec<Arc<dyn Study>>,
}

impl Default for Lab {
    fn default() -> Self {
        Self {
            catalogue: federated(Catalogue::default()),
            methods: attribution::methods(),
            studies: Vec::new(),
        }
    }
}

impl Lab {
    /// Adds an aggregation rule.
    ///
    /// # Panics
    /// As [`Named::add`], like the other two.
    pub fn rule(mut self, name: &str, about: &str, rule: impl Rule + 'static) -> Self {
        self.catalogue = self.catalogue.rule(name, about, rule);
        self
    }

    /// Adds an attribution method.
    pub fn method(mut self, name: &str, about: &str, method: impl Method + 'static) -> Self {
        self.methods.add(name, about, Arc::new(method));
        self
    }

    /// Adds a study.
    pub fn study(mut self, study: impl Study + 'static) -> Self {
        self.studies.push(Arc::new(study));
        self
    }

    /// Parses the command line, runs the study that it names, and says how it went by the exit code.
    pub fn main(self) -> ExitCode {
        exit_code(self.execute())
    }

    fn execute(self) -> Result<bool, Box<dyn Error>> {
        let methods = Arc::new(self.methods);
        let program = Program {
            name: "tributary-lab",
            catalogue: Arc::new(self.catalogue),
        };
        let mut studies: Named<dyn Study> = Named::new("study");
        for study in built_in(&methods).into_iter().chain(self.studies) {
            studies.add(study.name(), study.about(), study.clone());
        }
        let mut command = Command::new("tributary-lab")
            .version(env!("CARGO_PKG_VERSION"))
            .about("Federations and studies that train real adapters, and the pages of figures that they write")
            .subcommand_required(true)
            .subcommand(Command::new("list").about("List the studies and all that has a name"));
        command = ScenarioCommand::augment_subcommands(command);
        for entry in studies.iter() {
            command = command.subcommand(Work::command_of(&*entry.thing));
        }
        let matches = command.get_matches();
        let (name, options) = matches.subcommand().expect("a subcommand is required");
        if name == "list" {
            list(&studies, &program.catalogue, &methods);
            return Ok(true);
        }
        if ScenarioCommand::has_subcommand(name) {
            return ScenarioCommand::from_arg_matches(&matches)?.execute(&program);
        }
        let study = &*studies.get(name)?.thing;
        let work = Work::of(&program.catalogue, study, options);
        work.check_page()?;
        let watch = work.watch();
        let outcome = study.run(&work);
        drop(watch);
        if let Some(outcome) = outcome? {
            work.show(&outcome)?;
        }
        Ok(true)
    }
}

/// The studies of this crate.
fn built_in(methods: &Arc<Named<dyn Method>>) -> [Arc<dyn Study>; 8] {
    let methods = methods.clone();
    [
        Arc::new(learning::LearningStudy),
        Arc::new(attacks::AttacksStudy),
        Arc::new(attribution::AttributionStudy { methods }),
        Arc::new(gaming::GamingStudy),
        Arc::new(cost::CostStudy),
        Arc::new(votes::VotesStudy),
        Arc::new(attribution::luck::LuckStudy),
        Arc::new(texts::TextsStudy),
    ]
}

fn list(studies: &Named<dyn Study>, catalogue: &Catalogue, methods: &Named<dyn Method>) {
    answer(format_args!("studies:"));
    print_names(studies);
    answer(format_args!(
        "\naggregation rules (attacks --rules NAME,NAME):"
    ));
    print_names(&catalogue.rules);
    answer(format_args!(
        "\nlearners (scenario: [learner] kind = NAME):"
    ));
    print_names(&catalogue.learners);
    answer(format_args!(
        "\nattacks (scenario: [[liars]] behaviour = NAME):"
    ));
    print_names(&catalogue.attacks);
    answer(format_args!(
        "\nlink models (scenario: [link] model = NAME):"
    ));
    print_names(&catalogue.links);
    answer(format_args!(
        "\nattribution methods (attribution --only NAME):"
    ));
    print_names(methods);
}
