// What both libraries for Node.js are asked to send: a method, and its message.
const userId = "ada-1";

export const CALLS = [
  ["identify", { userId, traits: { email: "ada@shop.example", firstName: "Ada" } }],
  ["track", {
    userId,
    event: "Product Viewed",
    properties: { product_id: "sku-1", name: "Mat", price: 14.5, currency: "EUR" },
  }],
  ["page", { userId, category: "Shop", name: "Home", properties: { url: "https://shop.example/" } }],
  ["screen", { userId, category: "Shop", name: "Home", properties: { theme: "dark" } }],
  ["group", { userId, groupId: "g-1", traits: { name: "Initech" } }],
  ["alias", { userId, previousId: "ada-0" }],
];

// Makes each call and tells of each whether it was sent: its own callback is told.
export const make = (analytics) =>
  CALLS.map(([method, message]) =>
    new Promise((done) => {
      analytics[method](message, (error) => done(error ? `${method}: ${error}` : "sent"));
    }));
