//! The choice with fakes in place of drivers: what is asked, what is found, what is said.

use super::probe::{guarded, try_out};
use super::*;

fn found(name: &str) -> Result<Found, Obstacle> {
    Ok(Found {
        device: cpu(),
        name: name.into(),
    })
}

#[test]
fn requests_are_read_as_people_write_them() {
    for request in Request::ALL {
        assert_eq!(request.to_string().parse(), Ok(request));
    }
    assert_eq!(" Vulkan ".parse(), Ok(Request::Vulkan));
    assert_eq!(Request::default(), Request::Auto);
    let error = "gpu".parse::<Request>().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("\"gpu\"") && text.contains(DEVICE_VARIABLE));
    // The message lists every word there is.
    assert!(Request::ALL.iter().all(|r| text.contains(r.name())));
}

#[test]
fn the_default_build_computes_on_the_cpu_without_a_warning() {
    let never = |_, _| -> Result<Found, Obstacle> { panic!("nothing to look for") };
    for request in [Request::Auto, Request::Cpu] {
        let choice = decide(request, &[], never).unwrap();
        assert_eq!((choice.kind, choice.warning), (Kind::Cpu, None));
    }
    // An explicit CPU looks for nothing, whatever the build has.
    let choice = decide(Request::Cpu, &[Kind::Wgpu], never).unwrap();
    assert_eq!(choice.kind, Kind::Cpu);
}

#[test]
fn reasons_name_the_threads_the_vector_units_and_the_cause() {
    let reason = |threads, request, built: &'static [Kind]| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().unwrap();
        pool.install(|| {
            decide(request, built, |_, _| Err(Obstacle::NoAdapter))
                .unwrap()
                .reason
        })
    };
    let plain = reason(3, Request::Auto, &[]);
    assert!(plain.starts_with("CPU with 3 threads and "), "{plain}");
    assert!(
        plain.ends_with(": this build has no GPU back end"),
        "{plain}"
    );
    assert_eq!(plain.contains("AVX-512"), has_avx512());
    let single = reason(1, Request::Cpu, &[]);
    assert!(single.starts_with("CPU with 1 thread and "), "{single}");
    assert!(single.ends_with(": as asked"), "{single}");
    let without = reason(2, Request::Auto, &[Kind::Wgpu]);
    assert!(without.ends_with(": no GPU was found"), "{without}");
}

#[test]
fn a_gpu_that_answers_is_used_and_named() {
    let find = |kind, software| found(&format!("card of {kind}, software {software}"));
    let built = [Kind::Vulkan, Kind::Wgpu];
    for (request, kind, name) in [
        (
            Request::Auto,
            Kind::Vulkan,
            "card of vulkan, software false",
        ),
        (Request::Wgpu, Kind::Wgpu, "card of wgpu, software false"),
        (
            Request::WgpuSoftware,
            Kind::Wgpu,
            "card of wgpu, software true",
        ),
    ] {
        let choice = decide(request, &built, find).unwrap();
        assert_eq!((choice.kind, choice.warning), (kind, None));
        assert!(choice.reason.contains(name), "{}", choice.reason);
    }
}

#[test]
fn auto_falls_back_to_the_cpu_with_a_typed_warning() {
    let broken = || Obstacle::Driver("lost device".into());
    for (obstacle, code) in [
        (Obstacle::NoAdapter, "no-gpu"),
        (Obstacle::SoftwareOnly, "software-gpu"),
        (broken(), "gpu-driver"),
    ] {
        let choice = decide(Request::Auto, &[Kind::Wgpu], |_, _| Err(obstacle.clone()));
        let choice = choice.unwrap();
        let warning = choice.warning.unwrap();
        assert_eq!((choice.kind, warning.code()), (Kind::Cpu, code));
        // What was asked, what was found, what is used.
        let text = warning.to_string();
        for part in ["auto", "wgpu", &obstacle.to_string(), "using CPU"] {
            assert!(text.contains(part), "{text} lacks {part}");
        }
    }
    // Of several obstacles the gravest is told, whichever comes first.
    for vulkan_is_broken in [true, false] {
        let find = |kind: Kind, _| match (kind == Kind::Vulkan) == vulkan_is_broken {
            true => Err(broken()),
            false => Err(Obstacle::NoAdapter),
        };
        let choice = decide(Request::Auto, &[Kind::Vulkan, Kind::Wgpu], find).unwrap();
        assert_eq!(choice.warning.unwrap().code(), "gpu-driver");
    }
}

#[test]
fn auto_warns_when_it_takes_the_second_back_end() {
    let find = |kind: Kind, _| match kind {
        Kind::Vulkan => Err(Obstacle::Driver("lost device".into())),
        _ => found("card"),
    };
    let choice = decide(Request::Auto, &[Kind::Vulkan, Kind::Wgpu], find).unwrap();
    assert_eq!(choice.kind, Kind::Wgpu);
    assert_eq!(
        choice.warning,
        Some(Warning::GpuDriver {
            wanted: Kind::Vulkan,
            used: Kind::Wgpu,
            why: "lost device".into()
        })
    );
}

#[test]
fn a_required_device_that_is_not_there_is_an_error() {
    let none = |_, _| Err(Obstacle::SoftwareOnly);
    let error = decide(Request::Vulkan, &[Kind::Wgpu], none).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, DeviceError::NotBuilt { .. }));
    assert!(text.contains("--features vulkan"), "{text}");
    let error = decide(Request::Wgpu, &[Kind::Wgpu], none).unwrap_err();
    let text = error.to_string();
    let expected = DeviceError::Unavailable {
        asked: Request::Wgpu,
        found: Obstacle::SoftwareOnly,
    };
    assert_eq!(error, expected);
    assert!(
        text.contains("wgpu was asked for, but only a software"),
        "{text}"
    );
}

#[test]
fn a_panicking_driver_is_an_obstacle_and_not_the_end() {
    let panicked = guarded::<()>(|| panic!("no queue family\nsecond line")).unwrap_err();
    let expected = Obstacle::Driver("it panicked (no queue family)".into());
    assert_eq!(panicked, expected);
    let number = 7;
    let formatted = guarded::<()>(|| panic!("queue {number}")).unwrap_err();
    assert!(formatted.to_string().contains("queue 7"));
}

#[test]
fn the_trial_product_is_right_on_the_cpu() {
    assert_eq!(try_out(&cpu()), Ok(()));
}
