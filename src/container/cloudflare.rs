//! Containers of the Cloudflare platform: the one that belongs to this object.
//!
//! Start options are built by hand: the binding's own are dropped by the runtime (spec/platform.md 1.6).

use crate::container::runtime::Call;
use crate::container::runtime::ContainerRuntime;
use crate::container::runtime::TOKEN;
use crate::container::runtime::Variables;
use crate::container::runtime::readdressed;
use crate::route::ContainerKind;
use js_sys::Array;
use js_sys::Object;
use js_sys::Reflect;
use protocol::sandbox::CONTAINER_PORT;
use wasm_bindgen::JsCast;
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::Container;
use worker::Error;
use worker::Response;

#[wasm_bindgen]
extern "C" {
    type RawContainer;

    #[wasm_bindgen(method, catch)]
    fn start(this: &RawContainer, options: &JsValue) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch, js_name = setInactivityTimeout)]
    fn set_inactivity_timeout(this: &RawContainer, ms: f64) -> Result<JsValue, JsValue>;
}

/// How long the platform keeps a container to which nothing is sent: as long as a lease that nobody released.
const INACTIVITY_MS: f64 = 3_600_000.0;

/// The container of one object; absent where the deployment has none.
pub struct Cloudflare {
    container: Option<Container>,
    role: &'static str,
    env: Vec<(&'static str, String)>,
}

impl Cloudflare {
    pub fn new(container: Option<Container>, kind: ContainerKind, env: Vec<(&'static str, String)>) -> Self {
        let role = match kind {
            ContainerKind::Sandbox => "session",
            ContainerKind::Town => "town",
        };
        Self { container, role, env }
    }

    fn container(&self) -> worker::Result<&Container> {
        let missing = "no container runtime: set HOLDFAST_HOST_URL, or deploy with containers";
        self.container.as_ref().ok_or_else(|| Error::RustError(missing.into()))
    }

    /// `{ entrypoint, env, enableInternet }` as a plain record.
    fn options(&self, token: &str, environment: &Variables) -> worker::Result<JsValue> {
        let env = Object::new();
        let own = environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let all = own.chain(self.env.iter().map(|(name, value)| (*name, value.as_str())));
        for (name, value) in all.chain([(TOKEN, token)]) {
            Reflect::set(&env, &name.into(), &value.into())?;
        }
        let entrypoint: Array = ["sandboxd", "init", "--", self.role].into_iter().map(JsValue::from_str).collect();
        let options = Object::new();
        Reflect::set(&options, &"env".into(), &env)?;
        Reflect::set(&options, &"entrypoint".into(), &entrypoint)?;
        Reflect::set(&options, &"enableInternet".into(), &true.into())?;
        Ok(options.into())
    }
}

impl ContainerRuntime for Cloudflare {
    async fn start(&self, _instance: &str, token: &str, environment: Variables) -> worker::Result<()> {
        let container = self.container()?;
        if container.running() {
            container.destroy(None).await?;
        }
        let raw: &JsValue = container.as_ref();
        raw.unchecked_ref::<RawContainer>().start(&self.options(token, &environment)?)?;
        // An agent works without a request to this object: only this keeps its container.
        raw.unchecked_ref::<RawContainer>().set_inactivity_timeout(INACTIVITY_MS)?;
        Ok(())
    }

    async fn ended(&self) -> worker::Result<bool> {
        self.container()?.wait_for_exit().await.map(|()| true)
    }

    async fn running(&self) -> worker::Result<bool> {
        Ok(self.container()?.running())
    }

    async fn fetch(&self, call: Call<'_>) -> worker::Result<Response> {
        let request = readdressed(&call, &format!("http://container{}", call.path))?;
        self.container()?.get_tcp_port(CONTAINER_PORT)?.fetch_request(request).await
    }

    async fn signal(&self, name: &str) -> worker::Result<()> {
        let number = match name {
            "SIGINT" => 2,
            "SIGKILL" => 9,
            _ => 15,
        };
        self.container()?.signal(number)
    }

    async fn destroy(&self) -> worker::Result<()> {
        let container = self.container()?;
        if container.running() { container.destroy(None).await } else { Ok(()) }
    }
}
