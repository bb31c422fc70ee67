// Before the first paint, so that nobody who chose dark sees a flash of light.
"use strict";
{
  const chosen = localStorage.getItem("gateway-theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
}
