//! A web server of a test's own, to stand behind an onion service: it answers by content, and remembers what it was asked, by which
//! connection and by which circuit. It goes with its value.

use data_encoding::BASE64;
use http::HeaderValue;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncBufReadExt as _, BufStream},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The number of the connection.
    pub connection: usize,
    /// tor's name of the circuit.
    pub circuit: String,
    /// Id and text of each event of a batch, else of the body.
    pub readings: Vec<(String, String)>,
    pub status: u16,
}

fn readings(id: Option<&HeaderValue>, body: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    match serde_json::from_slice::<Vec<Value>>(body) {
        // What comes by MQTT 3.1.1 has no content type, so it travels as bytes.
        Ok(events) => events
            .iter()
            .map(|event| {
                let data = BASE64.decode(event["data_base64"].as_str().unwrap().as_bytes());
                (event["id"].as_str().unwrap().to_owned(), text(data.unwrap()))
            })
            .collect(),
        Err(_) => vec![(id.unwrap().to_str().unwrap().to_owned(), text(body.to_vec()))],
    }
}

type Answer = Arc<dyn Fn(&str) -> u16 + Send + Sync>;

pub struct Web {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    _runtime: Runtime,
}

impl Web {
    /// Answers each request with the highest status that `answer` has for a reading in it. Every connection must begin with the name of its circuit.
    pub fn start(answer: impl Fn(&str) -> u16 + Send + Sync + 'static) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, answer) = (Arc::<Mutex<Vec<Asked>>>::default(), Arc::new(answer) as Answer);
        let seen = Arc::clone(&asked);
        runtime.spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, connection, Arc::clone(&answer), Arc::clone(&seen)));
            }
        });
        Self { address, asked, _runtime: runtime }
    }

    /// Every request so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Every reading that was answered with success, in order. What comes again under its id is the same one: its answer was lost.
    pub fn taken(&self) -> Vec<String> {
        let (asked, mut known) = (self.asked(), BTreeSet::new());
        let taken = asked.into_iter().filter(|asked| asked.status == 200).flat_map(|asked| asked.readings);
        taken.filter(|(id, _)| known.insert(id.clone())).map(|(_, text)| text).collect()
    }
}

async fn serve(stream: TcpStream, connection: usize, answer: Answer, seen: Arc<Mutex<Vec<Asked>>>) {
    let (mut stream, mut line) = (BufStream::new(stream), String::new());
    stream.read_line(&mut line).await.unwrap();
    let circuit = line.strip_prefix("PROXY TCP6 ").and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    let service = service_fn(|request: Request<Incoming>| {
        let (circuit, answer, seen) = (circuit.clone(), &answer, &seen);
        async move {
            let id = request.headers().get("webhook-id").cloned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let readings = readings(id.as_ref(), &body);
            let status = readings.iter().map(|(_, text)| answer(text)).max().unwrap();
            seen.lock().unwrap().push(Asked { connection, circuit, readings, status });
            Ok::<_, Infallible>(Response::builder().status(status).body(Empty::<bytes::Bytes>::new()).unwrap())
        }
    });
    // It ends when the circuit does.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
