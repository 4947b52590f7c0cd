//! Where conversations are put: answers when the test does.

use crate::object::PATIENCE;
use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::put;
use flate2::read::GzDecoder;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// The store.
pub struct Store {
    pub url: String,
    puts: mpsc::UnboundedReceiver<Put>,
}

/// A conversation that somebody waits to be rid of.
pub struct Put {
    /// The export.
    pub conversation: Value,
    answer: oneshot::Sender<StatusCode>,
}

impl Store {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/snapshot", listener.local_addr().unwrap());
        let (tell, puts) = mpsc::unbounded_channel();
        let take = async move |body: Bytes| {
            let conversation = serde_json::from_reader(GzDecoder::new(&body[..])).unwrap();
            let (answer, answered) = oneshot::channel();
            tell.send(Put { conversation, answer }).unwrap_or_else(|_| panic!("the test is over"));
            answered.await.unwrap_or(StatusCode::SERVICE_UNAVAILABLE)
        };
        let router = Router::new().route("/snapshot", put(take));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, puts }
    }

    /// Waits for the next one.
    pub async fn put(&mut self) -> Put {
        let put = tokio::time::timeout(PATIENCE, self.puts.recv()).await;
        put.expect("nobody puts a conversation away").unwrap()
    }
}

impl Put {
    pub fn answer(self, status: StatusCode) {
        let _ = self.answer.send(status);
    }
}
