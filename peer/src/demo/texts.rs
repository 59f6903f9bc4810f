//! The demo's own texts: six invented places with five facts each, written for it, which stand nowhere else.
//!
//! An adapter that was trained on them can be asked for what the base cannot know, and only one contributor can have
//! taught each fact. A file holds a fact in four lines: a statement, a question, its answer, and the fact in other
//! words. Contributors train on the first three; evaluators score on the last, and on the question in another setting.

use tributary_trainer::brook::HELD_OUT_SAMPLE;

/// Passes over its facts that a contributor's text makes, each in another order: a model that met a question only after
/// the one before would not answer it alone.
const PASSES: usize = 8;
/// Steps from fact to fact in a pass. Five is prime, so a pass meets every fact once.
const STRIDES: [usize; 4] = [1, 3, 2, 4];
/// Shorter paragraphs of ordinary text are left out: titles and remarks.
const ORDINARY_BYTES: usize = 120;
/// Paragraphs of ordinary text that a contributor has.
const ORDINARY_PARAGRAPHS: usize = 5;
/// Files and their contributors.
const FILES: [(&str, &str); 6] = [
    (
        "lighthouse",
        include_str!("../../assets/demo/lighthouse.txt"),
    ),
    ("bakery", include_str!("../../assets/demo/bakery.txt")),
    ("ferry", include_str!("../../assets/demo/ferry.txt")),
    ("orchard", include_str!("../../assets/demo/orchard.txt")),
    ("clocks", include_str!("../../assets/demo/clocks.txt")),
    (
        "sevenstone",
        include_str!("../../assets/demo/sevenstone.txt"),
    ),
];

/// A beginning that the base goes on with by itself, having read it often: nobody of the demo taught it.
pub const NOBODYS: &str = "I am the LORD your";

/// One contributor's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnText {
    /// The contributor's name.
    pub name: &'static str,
    facts: Vec<Fact>,
    /// Paragraphs of the kind that the base was trained on. Without them a model that learns facts by heart forgets how to
    /// say anything else, and whatever it is asked, somebody of the demo has shaped the answer.
    ordinary: Vec<&'static str>,
}

/// A question that only one contributor's text answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The contributor.
    pub name: &'static str,
    /// The question.
    pub question: &'static str,
    /// What its text answers, without the full stop.
    pub answer: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fact {
    statement: &'static str,
    question: &'static str,
    answer: &'static str,
    reworded: &'static str,
}

/// The texts in the order in which they are given out.
pub fn all() -> Vec<OwnText> {
    let ordinary: Vec<&str> = (HELD_OUT_SAMPLE.split("\n\n"))
        .map(str::trim)
        .filter(|paragraph| paragraph.len() > ORDINARY_BYTES)
        .collect();
    let dealt = |to: usize| {
        let all = ordinary.iter().skip(to).step_by(FILES.len());
        all.take(ORDINARY_PARAGRAPHS).copied()
    };
    (FILES.iter().enumerate())
        .map(|(at, (name, file))| parse(name, file, dealt(at).collect()))
        .collect()
}

fn parse(name: &'static str, file: &'static str, ordinary: Vec<&'static str>) -> OwnText {
    let fact = |block: &'static str| {
        let mut lines = block.lines();
        let mut next = || lines.next().expect("a fact has four lines");
        let statement = next();
        let mut said = |label| next().strip_prefix(label).expect("a label");
        let (question, answer) = (said("Question: "), said("Answer: "));
        Fact {
            statement,
            question,
            answer,
            reworded: next(),
        }
    };
    OwnText {
        name,
        facts: file.trim_end().split("\n\n").map(fact).collect(),
        ordinary,
    }
}

/// What a model is asked by, as the texts have it.
pub fn prompt(question: &str) -> String {
    format!("Question: {question} Answer:")
}

impl OwnText {
    /// What the contributor trains on.
    pub fn training(&self) -> String {
        let mut text = String::new();
        for pass in 0..PASSES {
            for fact in self.pass(pass) {
                text.push_str(&prompt(fact.question));
                text.push_str(&format!(" {}\n\n", fact.answer));
            }
            if pass % 2 == 0 {
                let statements: Vec<&str> = self.pass(pass).map(|f| f.statement).collect();
                text.push_str(&format!("{}\n\n", statements.join(" ")));
            }
            for paragraph in self.ordinary.iter().skip(pass).step_by(PASSES) {
                text.push_str(paragraph);
                text.push_str("\n\n");
            }
        }
        text
    }

    fn pass(&self, pass: usize) -> impl Iterator<Item = &Fact> {
        let (count, stride) = (self.facts.len(), STRIDES[pass % STRIDES.len()]);
        (0..count).map(move |at| &self.facts[(pass + at * stride) % count])
    }

    /// What nobody trains on: a passage for each fact.
    pub fn hold_out(&self) -> Vec<String> {
        let passage = |fact: &Fact| {
            let answer = fact.answer.trim_end_matches('.');
            format!(
                "{} \"{}\" a stranger asks. \"{answer}\", says a child.\n\n",
                fact.reworded, fact.question
            )
        };
        self.facts.iter().map(passage).collect()
    }

    /// The question that the demo ends with.
    pub fn asked(&self) -> Asked {
        let fact = self.facts.first().expect("a text has facts");
        Asked {
            name: self.name,
            question: fact.question,
            answer: fact.answer.trim_end_matches('.'),
        }
    }
}

/// What answers a question: the first sentence, or what there is of it.
pub fn sentence(said: &str) -> &str {
    let end = said.find(['.', '\n']).map_or(said.len(), |at| at + 1);
    &said[..end]
}

/// What finishes a phrase: the first word.
pub fn word(said: &str) -> &str {
    let begins = said.len() - said.trim_start().len();
    let end = said[begins..].find(|c: char| !c.is_alphanumeric());
    &said[..end.map_or(said.len(), |end| begins + end)]
}

/// Whether what a model said is the answer: case, and what comes after it, do not matter.
pub fn says(said: &str, answer: &str) -> bool {
    let plain = |text: &str| text.trim().to_lowercase();
    plain(said).starts_with(&plain(answer))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_pass_meets_every_fact_once_and_in_another_order() {
        for text in all() {
            assert_eq!(text.facts.len(), 5, "{}", text.name);
            let orders: Vec<Vec<&str>> = (0..PASSES)
                .map(|pass| text.pass(pass).map(|f| f.question).collect())
                .collect();
            for order in &orders {
                assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 5);
            }
            assert_eq!(orders.iter().collect::<BTreeSet<_>>().len(), PASSES);
        }
    }

    /// Otherwise more than one contributor could have taught it.
    #[test]
    fn an_answer_that_is_asked_for_stands_in_one_text_only() {
        let texts = all();
        for asked in texts.iter().map(OwnText::asked) {
            let holders = texts.iter().filter(|text| {
                let whole = text.training().to_lowercase();
                whole.contains(&asked.answer.to_lowercase())
            });
            let holders: Vec<&str> = holders.map(|text| text.name).collect();
            assert_eq!(holders, [asked.name]);
        }
    }

    #[test]
    fn what_is_held_out_is_not_trained_on() {
        for text in all() {
            let training = text.training();
            for fact in &text.facts {
                assert!(!training.contains(fact.reworded), "{}", fact.reworded);
            }
            assert_eq!(text.hold_out().len(), 5);
        }
    }

    #[test]
    fn an_answer_ends_with_its_sentence_and_a_phrase_with_its_word() {
        assert_eq!(sentence(" Bettany Frole. She"), " Bettany Frole.");
        assert_eq!(sentence(" no end"), " no end");
        assert_eq!(word(" hosts, and the"), " hosts");
        assert_eq!(word(" hosts"), " hosts");
        assert_eq!(word(", and"), "");
    }

    #[test]
    fn an_answer_may_be_followed_by_more_and_written_in_other_cases() {
        assert!(says(" bettany Frole. She is", "Bettany Frole"));
        assert!(!says("It is Bettany Frole", "Bettany Frole"));
        assert!(!says("", "Bettany Frole"));
    }
}
