import { render } from "preact";
import { App } from "./app";
import { followLinks } from "./router";
import { startClock } from "./state/clock";
import { guardUnsaved } from "./state/rules";
import { startFavicon } from "./state/title";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/wall.css";
import "./styles/run.css";
import "./styles/chart.css";
import "./styles/notify.css";
import "./styles/rules.css";

followLinks();
startClock();
startFavicon();
guardUnsaved();
render(<App />, document.getElementById("app")!);
