//! How long it takes to get to many hosts behind one bastion, beside one of them.

use std::time::Duration;

use freehold_e2e::crowd::Crowd;
use freehold_e2e::lab::{Lab, Topology};
use freehold_e2e::project::{Project, deploy_file};

use crate::times::Times;
use crate::{Failure, print};

/// All hosts may take so many times as long as one.
const LIMIT: f64 = 3.0;

/// Looks at one host, at all of them, and at all with one more that says nothing, so often each.
pub(crate) async fn measure(count: u16, runs: usize) -> Result<bool, Failure> {
    let lab = Lab::start(Topology::bastion()).await?;
    let project = Project::new(&lab, &["app"])?;
    let crowd = Crowd::start(&lab, &project, count).await?;
    let names = crowd.names();
    let with_silent: Vec<String> =
        [Crowd::SILENT.to_owned()].into_iter().chain(names.iter().cloned()).collect();
    let one = look(&project, names.get(..1).unwrap_or_default(), (0, runs)).await?;
    let all = look(&project, &names, (0, runs)).await?;
    let dead = look(&project, &with_silent, (4, runs)).await?;
    let ratio = all.median().as_secs_f64() / one.median().as_secs_f64();
    let beyond = dead.median().saturating_sub(Duration::from_secs(4));
    print(&format!(
        "  1 host                    {one} s\n{count:>3} hosts                   {all} s, {ratio:.2} times one (limit {LIMIT})\n\
         {count:>3} hosts and a silent one {dead} s, {} ms beyond its deadline\n",
        beyond.as_millis()
    ));
    Ok(ratio <= LIMIT)
}

async fn look(project: &Project, hosts: &[String], (code, runs): (i32, usize)) -> Result<Times, Failure> {
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    project.write("config/deploy.yml", &deploy_file(&hosts, ""))?;
    let mut times = Vec::new();
    // One more than is counted: the first may find things cold.
    for number in 0..=runs {
        let run = project.freehold(&["status"]).await?.expect_code(code)?;
        if number > 0 {
            times.push(run.elapsed);
        }
    }
    Ok(Times::new(times))
}
