//! Asks the workers, now and then, with which VPN servers their clients have tunnels.

use std::sync::Arc;
use std::time::Duration;

use spillway_control::manage::{Appliance, ask};
use spillway_dataplane::esp::PeerView;
use spillway_dataplane::snapshot::WorkerId;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;

/// How long a new server's packets may change workers.
const ASK_EVERY: Duration = Duration::from_secs(2);

/// What workers tell, as long as it is listened to.
pub(super) struct Servers {
    told: mpsc::Receiver<Vec<(WorkerId, PeerView)>>,
    asking: Option<JoinHandle<()>>,
}

impl Servers {
    /// Asks from now on, if anybody wants to know.
    pub(super) fn watch(appliance: &Arc<Appliance>, wanted: bool) -> Servers {
        let (tell, told) = mpsc::channel(1);
        let appliance = Arc::clone(appliance);
        let ask = async move {
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                match ask::peers(&appliance).await {
                    Ok(servers) => {
                        if tell.send(servers).await.is_err() {
                            return; // nobody listens any more
                        }
                    }
                    Err(error) => debug!("no word about VPN servers: {error}"),
                }
            }
        };
        Servers {
            told,
            asking: wanted.then(|| tokio::spawn(ask)),
        }
    }

    /// The servers, when workers have told them; `None` where nobody asks.
    pub(super) async fn told(&mut self) -> Option<Vec<(WorkerId, PeerView)>> {
        self.told.recv().await
    }

    /// Asks no more; nothing of the appliance is held when this returns.
    pub(super) async fn end(self) {
        if let Some(asking) = self.asking {
            asking.abort();
            let _ = asking.await; // it was aborted
        }
    }
}
